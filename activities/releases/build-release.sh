# Builds RELEASES/ID.partial and makes RELEASES/ID of it. After "--": for each command SECONDS DIRECTORY COUNT PROGRAM ARGUMENT...
releases=${argument[releases]} id=${argument[id]}
partial=$releases/$id.partial
prepare_user
[[ ! -e $releases/$id ]] || exit 0 # finished by an earlier attempt of this run
[[ -d $partial ]] || fail "there is no $partial to build"
read_environment
number=0
while (($# > 0)); do
  seconds=$1 directory=$2 count=$3
  words=("${@:4:count}")
  shift $((3 + count))
  number=$((number + 1))
  printf 'guardia:progress {"command":%s}\n' "$number" >&2
  printf '== %s\n' "${words[*]}" >&2
  run_command "$seconds" "$partial${directory:+/$directory}" "${words[@]}"
  status=$?
  case $status in
    0) ;;
    124 | 137) fail "\`${words[*]}\` did not end within $seconds s" ;;
    *) fail_for_space "\`${words[*]}\` ended with code $status" ;;
  esac
done
printf '{"id":"%s","commit":"%s","run":"%s","builtAt":"%s"}\n' "$id" "${argument[commit]}" "${argument[run]}" "$(date -u +%FT%TZ)" \
  >"$partial/.guardia-release.json" || fail_for_space "cannot write into $partial"
sync -f "$partial"
mv -T "$partial" "$releases/$id" && sync "$releases"
