# Looks at UFW and changes it. Run as `bash -c SCRIPT firewall COMMAND ...`.
#   look                             lines KEY VALUE; the blocks of the rules for published ports in base64
#   save                             a tar archive of all that a change touches, to stdout
#   set                              by stdin: lines `add ARGUMENT...` and `delete ARGUMENT...` in shell words, then `defaults`, then `on`
set -u
export LC_ALL=C
case $1 in
look)
  # The login comes over SSH, and sudo has taken its environment away: an ancestor of this shell still has it.
  pid=$PPID client=-
  while [ "${pid:-0}" -gt 1 ]; do
    found=$(tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | sed -n 's/^SSH_CONNECTION=//p')
    [ -n "$found" ] && client=$found && break
    pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null)
  done
  echo "client $client"
  # Docker names its bridges by the id of the network, unless it is told a name; another one may be the way to the world.
  docker='docker[^ :@]*|br-[0-9a-f]{12}'
  ip -o link show | sed -n 's/^[0-9]*: \(br-[^:@]*\).*/\1/p' | grep -vxE "$docker" | sed 's/^/bridge /'
  named=$(command -v docker >/dev/null && timeout 5 docker network ls -q --filter driver=bridge 2>/dev/null |
    timeout 5 xargs -r docker network inspect -f '{{index .Options "com.docker.network.bridge.name"}}' 2>/dev/null | tr '\n' ' ')
  # Without links of containers: what comes from there is told by its address.
  ip -o -4 addr show scope global | grep -vE "^[0-9]+: +($docker|veth[^ ]*) " |
    awk -v named=" $named" 'index(named, " " $2 " ") == 0 { print "network " $4 }'
  command -v ufw >/dev/null || { echo 'installed no'; exit 0; }
  echo 'installed yes'
  ufw status | sed -n '1s/^Status: /status /p'
  sed -n 's/^DEFAULT_\(INPUT\|OUTPUT\)_POLICY="\?\([A-Z]*\)"\?.*/\1 \2/p' /etc/default/ufw
  ufw show added | sed -n 's/^ufw /rule /p'
  for family in '' 6; do
    echo "after$family $(base64 -w0 "/etc/ufw/after$family.rules")"
  done
  ;;
save)
  work=$(mktemp -d) || exit 1
  trap 'rm -rf "$work"' EXIT
  mkdir "$work/etc" && cp -a /etc/ufw "$work/etc/ufw" && cp -a /etc/default/ufw "$work/etc/default-ufw" || exit 1
  ufw status | grep -q '^Status: active' && touch "$work/active"
  for tool in iptables ip6tables; do
    "$tool" -w -S DOCKER-USER >"$work/$tool" 2>/dev/null || rm -f "$work/$tool"
    "$tool" -w -S FORWARD 2>/dev/null | sed -n 's/^-P FORWARD //p' >"$work/$tool-forward"
  done
  tar -c -C "$work" .
  ;;
set)
  while IFS= read -r line; do
    case $line in
    'add '*) xargs ufw <<<"${line#add }" >/dev/null || exit 1 ;;
    # A rule for what is forwarded: the word route comes before delete.
    'delete route '*) xargs ufw --force route delete <<<"${line#delete route }" >/dev/null || exit 1 ;;
    'delete '*) xargs ufw --force delete <<<"${line#delete }" >/dev/null || exit 1 ;;
    defaults) ufw default deny incoming >/dev/null && ufw default allow outgoing >/dev/null || exit 1 ;;
    on)
      if ufw status | grep -q '^Status: active'; then ufw reload >/dev/null || exit 1; else ufw --force enable >/dev/null || exit 1; fi
      ;;
    esac
  done
  ;;
esac
