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
    name=$(basename "$file")
    said=$(logrotate -d /etc/logrotate.conf 2>&1)
    ended=$?
    grep -q "^reading config file $name" <<<"$said" || { echo "logrotate does not read $file: $(tail -n 1 <<<"$said")" >&2; exit 1; }
    # What is wrong with other files is not this one's; whether it ends with 0 then differs from error to error.
    wrong=$(grep -iE '^error:|duplicate log entry' <<<"$said")
    ours=$(grep -E "^error: ([^ ]*/)?${name//./\\.}:|in file ([^ ]*/)?${name//./\\.}(,|$)" <<<"$wrong")
    [ -z "$ours" ] || { printf '%s\n' "$ours" >&2; exit 1; }
    [ "$ended" = 0 ] || [ -n "$wrong" ] || { tail -n 3 <<<"$said" >&2; exit 1; }
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
audit)
  # Only the kernel itself could judge the whole of it, and it knows one set of rules: auditctl would put them in force.
  for file in "$@"; do
    wrong=$(grep -vE '^[[:space:]]*(#.*)?$|^-w /[^[:space:]]+ -p [rwxa]+( -k [A-Za-z0-9_-]+)?$|^-a (always|never),(exit|exclude|user|filesystem)( -[FSCk] [^[:space:]]+)+$' "$file")
    [ -z "$wrong" ] || { printf '%s\n' "not a rule of audit: $wrong" >&2; exit 1; }
    # A rule for what is in no directory is refused, and with it all that come after it.
    while read -r path; do
      [ -d "${path%/*}/" ] || { printf '%s\n' "$file watches $path, and ${path%/*} is not there" >&2; exit 1; }
    done < <(sed -nE 's/^-w ([^[:space:]]+) .*/\1/p' "$file")
  done
  echo 'checked as a file: whether its rules are in force, the kernel alone can tell (auditctl -l)'
  ;;
limits)
  for file in "$@"; do
    wrong=$(grep -vE '^[[:space:]]*(#.*)?$|^[^[:space:]]+[[:space:]]+(soft|hard|-)[[:space:]]+[a-z]+[[:space:]]+(-1|[0-9]+|unlimited|infinity)[[:space:]]*$' "$file")
    [ -z "$wrong" ] || { printf '%s\n' "not a limit: $wrong" >&2; exit 1; }
  done
  echo 'checked as a file: logins from now on have these limits, services have those of their units'
  ;;
*)
  echo "unknown check $kind" >&2
  exit 1
  ;;
esac
