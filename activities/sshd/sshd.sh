# Asks sshd what it would do. Run as `bash -c SCRIPT sshd COMMAND USER HOST ADDRESS LOCAL-ADDRESS PORT [DROP-IN]`.
#   look                   the options in force for such a login, as `sshd -T` says them
#   trial                  the same as if the drop-in that comes by stdin were in force; exit code 3: sshd refuses it
#   placed                 the same with that text as the drop-in DROP-IN, behind what is read before it
#   test                   exit code 3: sshd refuses what is in force
# Run as `bash -c SCRIPT sshd places DROP-IN KEYWORD...` it tells for each keyword, after a tab, where sshd reads it first besides the drop-in: FILE:LINE.
set -u
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
command -v sshd >/dev/null || exit 4
mkdir -p /run/sshd

# The files in the order in which sshd reads them, as FILE:LINE TEXT. Includes in included files are not followed.
read_order() {
  local line n=0 included
  while IFS= read -r line || [[ -n $line ]]; do
    n=$((n + 1))
    if [[ $line =~ ^[[:space:]]*[Ii][Nn][Cc][Ll][Uu][Dd][Ee][[:space:]=]+(.+)$ ]]; then
      for included in ${BASH_REMATCH[1]//\"/}; do # unquoted: patterns
        [[ $included == /* ]] || included=/etc/ssh/$included
        for included in $included; do
          [[ -f $included ]] && awk -v file="$included" '{ print file ":" NR " " $0 }' "$included"
        done
      done
    else
      printf '/etc/ssh/sshd_config:%s %s\n' "$n" "$line"
    fi
  done </etc/ssh/sshd_config
}
if [[ $1 == places ]]; then
  own=$2
  shift 2
  order=$(read_order | grep -vF "$own:")
  for keyword in "$@"; do
    printf '%s\t%s\n' "$keyword" "$(grep -m 1 -iE "^[^ ]+ [[:space:]]*$keyword[[:space:]=]" <<<"$order" | cut -d ' ' -f 1)"
  done
  exit
fi
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
placed)
  work=$(mktemp -d) || exit 1
  trap 'rm -rf "$work"' EXIT
  cp -R /etc/ssh/sshd_config.d "$work/" 2>/dev/null
  mkdir -p "$work/sshd_config.d"
  cat - >"$work/sshd_config.d/${7##*/}"
  sed -E "/^[[:space:]]*include[[:space:]=]/I s#(/etc/ssh/)?sshd_config\.d/#$work/sshd_config.d/#g" /etc/ssh/sshd_config >"$work/sshd_config"
  sshd -T -f "$work/sshd_config" -C "$of" || exit 3
  ;;
test) sshd -t || exit 3 ;;
esac
