# Lets DIRECTORY point to TO, when it points to FROM; an empty one means that there is no link. In one step: nobody ever sees it missing.
directory=${argument[directory]} from=${argument[from]} to=${argument[to]}
if [[ -e $directory && ! -L $directory ]]; then third_state "$directory is no link"; fi
current=$(readlink "$directory" 2>/dev/null)
if [[ $current != "$to" ]]; then
  [[ $current == "$from" ]] || third_state "$directory points to ${current:-nothing}, not to ${from:-nothing}"
  if [[ -z $to ]]; then
    rm "$directory"
  else
    [[ -d $to ]] || third_state "there is no release $to"
    rm -f "$directory.guardia-new"
    # It belongs to whoever the link before it belonged to.
    owner=$(stat -c %u:%g "$directory" 2>/dev/null || echo 0:0)
    { ln -s "$to" "$directory.guardia-new" && chown -h "$owner" "$directory.guardia-new" && mv -T "$directory.guardia-new" "$directory"; } || fail "$directory could not be switched"
  fi
  sync "${directory%/*}"
fi
[[ $(readlink "$directory" 2>/dev/null) == "$to" ]] || fail "$directory does not point to ${to:-nothing}"
