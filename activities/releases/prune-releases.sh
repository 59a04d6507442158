# Removes old releases: all but the newest KEEP, the current one, those named after "--", those that migrations still need, and what was taken over from a
# checkout, which may hold what is nowhere else. And what unfinished runs have left.
# Prints the ids that it removed.
shopt -s nullglob
releases=${argument[releases]}
current=$(readlink "${argument[directory]}" 2>/dev/null)
protected=" $* ${current##*/} "
ids=()
for path in "$releases"/*/; do
  path=${path%/}
  case $path in
    *.partial) rm -rf "$path" && echo "${path##*/}" ;;
    # What was put there by hand stays.
    *) [[ ! -f $path/.guardia-release.json ]] || grep -q '"adopted":true' "$path/.guardia-release.json" || ids+=("${path##*/}") ;;
  esac
done
mapfile -t ids < <(printf '%s\n' "${ids[@]}" | sort --reverse)
for id in "${ids[@]:argument[keep]}"; do
  [[ -n $id && $protected != *" $id "* && ! -e $releases/$id/.guardia-needed ]] || continue
  rm -rf "${releases:?}/$id" && echo "$id"
done
