# Lets a program judge its configuration. Run as `bash -c SCRIPT check KIND PATH...`; exit code 1 with the program's own words: it is wrong.
set -u
export LC_ALL=C
kind=$1
shift
case $kind in
nginx) nginx -t -q ;;
haproxy) haproxy -c -q -f /etc/haproxy/haproxy.cfg ;;
fail2ban) fail2ban-client -t >/dev/null ;;
docker)
  # Docker of Debian 12 cannot validate yet; the daemon itself refuses what is wrong, and the step before it is undone.
  dockerd --help | grep -q -e --validate || exit 0
  dockerd --validate --config-file /etc/docker/daemon.json >/dev/null ;;
units) systemd-analyze verify --man=no "$@" ;;
logrotate)
  for file in "$@"; do
    # It says what is wrong, and ends with 0 all the same.
    said=$(logrotate -d /etc/logrotate.conf 2>&1) || { printf '%s\n' "$said" >&2; exit 1; }
    grep -q "^reading config file $(basename "$file")" <<<"$said" || { echo "logrotate does not read $file" >&2; exit 1; }
    wrong=$(grep -iE '^error:|duplicate log entry' <<<"$said" | grep -F "$(basename "$file")")
    [ -z "$wrong" ] || { printf '%s\n' "$wrong" >&2; exit 1; }
  done
  ;;
compose)
  for file in "$@"; do docker compose -f "$file" config -q || exit 1; done
  ;;
sysctl)
  for file in "$@"; do
    wrong=$(grep -vE '^[[:space:]]*([#;].*)?$|^[[:space:]]*-?[a-z0-9_./-]+[[:space:]]*=[[:space:]]*[^[:space:]].*$' "$file")
    [ -z "$wrong" ] || { printf '%s\n' "not a setting: $wrong" >&2; exit 1; }
  done
  ;;
*)
  echo "unknown check $kind" >&2
  exit 1
  ;;
esac
