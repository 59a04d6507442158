# System users. Run as `bash -c SCRIPT accounts COMMAND ARGUMENT...`.
#   look NAME...                         NAME HOME SHELL GROUP,GROUP of those that there are
#   make NAME HOME SHELL GROUP,GROUP     makes the user where there is none, and adds it to the groups
#   restore NAME yes|no HOME-MADE GROUP,GROUP   yes: the user was there before; the groups are those that were added
set -u
export LC_ALL=C
command=$1
shift
look() {
  local name=$1 line
  line=$(getent passwd -- "$name") || return 0
  printf '%s %s %s %s\n' "$name" "$(cut -d: -f6 <<<"$line")" "$(cut -d: -f7 <<<"$line")" "$(id -Gn -- "$name" | tr ' ' ,)"
}
case $command in
look) for name in "$@"; do look "$name"; done ;;
make)
  if ! getent passwd -- "$1" >/dev/null; then
    useradd --system --user-group --create-home --home-dir "$2" --shell "$3" -- "$1" || exit 1
  fi
  IFS=, read -r -a groups <<<"$4"
  for group in ${groups[@]+"${groups[@]}"}; do
    id -Gn -- "$1" | tr ' ' '\n' | grep -qxF -- "$group" || usermod --append --groups "$group" -- "$1" || exit 1
  done
  ;;
restore)
  if ! getent passwd -- "$1" >/dev/null; then
    # Cut off behind userdel, the group is left.
    [ "$2" = yes ] || ! getent group -- "$1" >/dev/null || groupdel -- "$1" || exit 1
    exit 0
  fi
  if [ "$2" = yes ]; then
    IFS=, read -r -a groups <<<"$4"
    for group in ${groups[@]+"${groups[@]}"}; do gpasswd -d "$1" "$group" >/dev/null 2>&1; done
    exit 0
  fi
  if [ -n "$(ps -o pid= -u "$1")" ]; then
    echo "processes of $1 still run" >&2
    exit 3
  fi
  home=$(getent passwd -- "$1" | cut -d: -f6)
  # The home goes first: once the user is gone nobody knows whose it was.
  if [ "$3" = yes ] && [ -n "$home" ]; then rm -rf --one-file-system -- "${home:?}" || exit 1; fi
  userdel -- "$1" || exit 1
  getent group -- "$1" >/dev/null && { groupdel -- "$1" || exit 1; }
  true
  ;;
esac
