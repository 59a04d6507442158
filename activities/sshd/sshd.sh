# Asks sshd what it would do. Run as `bash -c SCRIPT sshd COMMAND USER HOST ADDRESS LOCAL-ADDRESS PORT [DROP-IN]`.
#   look                   the options in force for such a login, as `sshd -T` says them
#   alone                  the options that the text by stdin sets, with nothing else in force than, where it names none, the ports and keys of the host
#   trial                  the same as if the drop-in that comes by stdin were in force; exit code 3: sshd refuses it
#   placed                 the same with that text as the drop-in DROP-IN, behind what is read before it
#   test                   exit code 3: sshd refuses what is in force
# Run as `bash -c SCRIPT sshd places DROP-IN KEYWORD...` it tells for each keyword, after a tab, what takes it from the drop-in: the first FILE:LINE that
# is read before it, else each in a Match block, which wins wherever it stands.
set -u
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
command -v sshd >/dev/null || exit 4
mkdir -p /run/sshd

# The files in the order in which sshd reads them, as FILE:LINE SCOPE TEXT, with DROP-IN in its place as a line of its own. SCOPE is M below a Match, which
# ends with its file. Includes in included files are not followed.
read_order() { # DROP-IN
  local line n=0 included patterns scope=G
  while IFS= read -r line || [[ -n $line ]]; do
    n=$((n + 1))
    [[ $line =~ ^[[:space:]]*[Mm][Aa][Tt][Cc][Hh][[:space:]] ]] && scope=M
    if [[ $line =~ ^[[:space:]]*[Ii][Nn][Cc][Ll][Uu][Dd][Ee][[:space:]=]+(.+)$ ]]; then
      # Not expanded here: the drop-in itself may not be there yet.
      read -ra patterns <<<"${BASH_REMATCH[1]//\"/}"
      for included in "${patterns[@]}"; do
        [[ $included == /* ]] || included=/etc/ssh/$included
        { compgen -G "$included"; [[ $1 == $included ]] && echo "$1"; } | sort -u | while IFS= read -r included; do
          if [[ $included == "$1" ]]; then
            echo "$1"
          elif [[ -f $included ]]; then
            awk -v file="$included" -v scope="$scope" 'tolower($1) == "match" { scope = "M" } { print file ":" NR " " scope " " $0 }' "$included"
          fi
        done
      done
    else
      printf '/etc/ssh/sshd_config:%s %s %s\n' "$n" "$scope" "$line"
    fi
  done </etc/ssh/sshd_config
}
if [[ $1 == places ]]; then
  own=$2
  shift 2
  order=$(read_order "$own")
  for keyword in "$@"; do
    printf '%s\t%s\n' "$keyword" "$(awk -v own="$own" -v keyword="${keyword,,}" '
      $0 == own { behind = 1; next }
      { text = tolower($0); sub(/^[^ ]+ [^ ]+[ \t]+/, "", text); split(text, word, /[ \t=]+/) }
      word[1] != keyword { next }
      $2 == "M" { match_blocks = match_blocks (match_blocks == "" ? "" : " or ") $1 }
      $2 == "G" && !behind && first == "" { first = $1 }
      END { print first == "" ? match_blocks : first }' <<<"$order")"
  done
  exit
fi
of="user=$2,host=$3,addr=$4,laddr=$5,lport=$6"
case $1 in
look) sshd -T -C "$of" || exit 3 ;;
alone)
  work=$(mktemp) || exit 1
  trap 'rm -f "$work"' EXIT
  cat - >"$work"
  # Without a key sshd says nothing, and what it listens on is made of its ports. Both add up: what the text says itself stays by itself.
  for keyword in hostkey port; do
    grep -qiE "^$keyword[[:space:]=]" "$work" || added+=$(sshd -T -C "$of" | grep "^$keyword ")$'\n'
  done
  printf %s "${added-}" >>"$work"
  sshd -T -f "$work" -C "$of" || exit 3
  ;;
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
