# Removes a release of this run, finished or not, and with mirror=made the mirror that the run made. Never what is in use.
releases=${argument[releases]} directory=${argument[directory]} id=${argument[id]}
[[ -n $id ]] || fail 'no release is named'
if [[ $(readlink "$directory" 2>/dev/null) == "$releases/$id" ]]; then
  third_state "$directory points to the release $id: it is in use"
fi
if [[ -e $releases/$id/.guardia-needed ]]; then
  third_state "the release $id is still needed: migrations of it are applied" "Decide about them first. Once the database is as it was before, remove $releases/$id/.guardia-needed and try again"
fi
rm -rf "${releases:?}/$id.partial" "${releases:?}/$id" "${releases:?}/.$id.tar.zst" || fail "$releases/$id could not be removed"
if [[ ${argument[mirror]:-} == made ]]; then rm -rf "${releases:?}/.mirror.git"; fi
if [[ ${argument[made]:-} == yes ]]; then rmdir "$releases" 2>/dev/null; fi
exit 0
