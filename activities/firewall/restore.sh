# Puts UFW back as firewall.sh saved it, in the directory of the unpacked archive.
set -u
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if command -v ufw >/dev/null; then
  find /etc/ufw -mindepth 1 -delete
  cp -a etc/ufw/. /etc/ufw/
  cp -a etc/default-ufw /etc/default/ufw
  if [ -e active ]; then
    ufw --force enable >/dev/null
    ufw reload >/dev/null
  else
    ufw --force disable >/dev/null
  fi
fi
# Neither UFW nor Docker takes rules out of this chain again.
for tool in iptables ip6tables; do
  "$tool" -w -F DOCKER-USER 2>/dev/null || continue
  if [ -e "$tool" ]; then
    grep '^-A ' "$tool" | while IFS= read -r rule; do xargs "$tool" -w <<<"$rule"; done
  else
    "$tool" -w -X DOCKER-USER 2>/dev/null || "$tool" -w -A DOCKER-USER -j RETURN
  fi
done
true
