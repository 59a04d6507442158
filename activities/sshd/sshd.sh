# Asks sshd what it would do. Run as `bash -c SCRIPT sshd COMMAND USER HOST ADDRESS LOCAL-ADDRESS PORT`.
#   look                   the options in force for such a login, as `sshd -T` says them
#   trial                  the same as if the drop-in that comes by stdin were in force; exit code 3: sshd refuses it
#   test                   exit code 3: sshd refuses what is in force
set -u
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
command -v sshd >/dev/null || exit 4
mkdir -p /run/sshd
of="user=$2,host=$3,addr=$4,laddr=$5,lport=$6"
case $1 in
look) sshd -T -C "$of" || exit 3 ;;
trial)
  # What comes first wins, and the drop-ins come first.
  work=$(mktemp) || exit 1
  trap 'rm -f "$work"' EXIT
  cat - /etc/ssh/sshd_config >"$work"
  sshd -T -f "$work" -C "$of" || exit 3
  ;;
test) sshd -t || exit 3 ;;
esac
