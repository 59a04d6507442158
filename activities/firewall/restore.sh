# Puts UFW back as firewall.sh saved it, in the directory of the unpacked archive.
set -u
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
status=0
if command -v ufw >/dev/null; then
  # Never without its files, also over a power cut: first what was there, then away with what was not.
  if cp -a etc/ufw/. /etc/ufw/ && cp -a etc/default-ufw /etc/default/ufw && sync /etc/default/ufw; then
    find /etc/ufw -mindepth 1 -depth -printf '%P\0' | while IFS= read -r -d '' path; do
      [ -e "etc/ufw/$path" ] || [ -L "etc/ufw/$path" ] || rm -rf "/etc/ufw/${path:?}"
    done
  else
    status=1
  fi
  if [ -e active ]; then
    ufw --force enable >/dev/null && ufw reload >/dev/null || status=1
  else
    ufw --force disable >/dev/null || status=1
  fi
fi
for tool in iptables ip6tables; do
  # UFW opens what is forwarded when it goes, and Docker shuts it only when it starts.
  [ ! -s "$tool-forward" ] || "$tool" -w -P FORWARD "$(cat "$tool-forward")" || status=1
  # Neither UFW nor Docker takes rules out of this chain again.
  "$tool" -w -F DOCKER-USER 2>/dev/null || continue
  if [ -e "$tool" ]; then
    grep '^-A ' "$tool" | while IFS= read -r rule; do xargs "$tool" -w <<<"$rule"; done
  else
    "$tool" -w -X DOCKER-USER 2>/dev/null || "$tool" -w -A DOCKER-USER -j RETURN
  fi
done
exit "$status"
