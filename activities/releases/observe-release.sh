# What of a deployment is on this host: link, releases, room, shared data, services. Reads only. Prints lines for release-observation.ts.
await_boot
releases=${argument[releases]} directory=${argument[directory]}
if [[ -L $directory ]]; then echo "link $(readlink "$directory")"
elif [[ -e $directory ]]; then echo 'link-is-other'; fi

shopt -s nullglob dotglob
for path in "$releases"/*/; do
  path=${path%/} id=${path##*/}
  case $id in
    *.partial) echo "partial $id" ;;
    .*) ;;
    *) echo "release $id $(sed -n 's/.*"commit": *"\([0-9a-f]*\)".*/\1/p' "$path/.guardia-release.json" 2>/dev/null | head -n 1)" ;;
  esac
done
current=$(readlink -f "$directory" 2>/dev/null) || current=
[[ -z $current || ! -d $current ]] || echo "current-kilobytes $(du --summarize --block-size=1024 "$current" | cut -f 1)"

at=$releases
until [[ -d $at ]]; do at=${at%/*} at=${at:-/}; done
read -r bytes inodes < <(df --block-size=1 --output=avail,iavail "$at" | tail -n 1)
echo "free $bytes $inodes"

for pair in "${shared[@]}"; do
  target=${pair#*$'\x1f'}
  [[ -e $target ]] || echo "missing $target"
done
id -u "${argument[user]}" >/dev/null 2>&1 || echo 'user-missing'
each say_state "$@"
