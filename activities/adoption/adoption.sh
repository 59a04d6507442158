# What was set up by hand. Run as `bash -c SCRIPT adoption COMMAND ARGUMENT...`.
#   checkout PATH RELEASES WRITABLE SHARED TARGET [SHARED TARGET]...    lines KEY VALUE...
#   projects                            PROJECT DIRECTORY of compose projects
#   where FROM TO                       FROM-STATE TO-STATE INODE-OF-FROM INODE-OF-TO LINK-OF-FROM
#   relocate FROM TO INODE              renames FROM to TO and leaves a link; goes on where an earlier attempt stopped
#   return FROM TO INODE                the way back
# Exit code 3: something else is there.
set -u
export LC_ALL=C
command=$1
shift

state() { # PATH: absent, link, empty (directories only, no file), taken
  if [ -L "$1" ]; then echo link
  elif [ ! -e "$1" ]; then echo absent
  elif [ -d "$1" ] && [ -z "$(find "$1" ! -type d -print -quit)" ]; then echo empty
  else echo taken; fi
}
directory() { # PATH
  if [ -d "$1" ] && [ ! -L "$1" ]; then echo directory; elif [ -e "$1" ] || [ -L "$1" ]; then echo other; else echo absent; fi
}
existing() { # PATH: the nearest directory above it that is there
  local at=$1
  until [ -d "$at" ]; do at=$(dirname -- "$at"); done
  echo "$at"
}
inode() { stat -c %d:%i -- "$1" 2>/dev/null || echo -; }
third() {
  echo "$1" >&2
  exit 3
}

case $command in
checkout)
  path=$1 releases=$2 writable=$3
  shift 3
  if [ -L "$path" ]; then kind="link"; elif [ -d "$path" ]; then kind=checkout; elif [ -e "$path" ]; then kind=other; else kind=absent; fi
  echo "kind $kind"
  echo "releases $(directory "$releases")"
  echo "writable $(directory "$writable")"
  [ "$kind" = checkout ] || exit 0
  echo "owner $(stat -c '%U %G' -- "$path")"
  echo "commit $(git -c safe.directory='*' -C "$path" rev-parse --verify -q HEAD 2>/dev/null)"
  same=yes
  for place in "$releases" "$writable"; do
    [ "$(stat -c %d -- "$path")" = "$(stat -c %d -- "$(existing "$place")")" ] || same=no
  done
  echo "same $same"
  while [ $# -ge 2 ]; do
    inside=$(state "$path/$1")
    case $inside in empty | taken) inside=there ;; esac
    echo "shared $inside $(state "$2") $1"
    shift 2
  done
  ;;
projects)
  command -v docker >/dev/null && docker info >/dev/null 2>&1 || exit 0
  docker ps --all --format '{{.Label "com.docker.compose.project"}} {{.Label "com.docker.compose.project.working_dir"}}' | grep -v '^ ' | sort -u
  ;;
where) echo "$(state "$1") $(state "$2") $(inode "$1") $(inode "$2") $(readlink -- "$1")" ;;
relocate)
  from=$1 to=$2 inode=$3
  if [ -L "$from" ]; then
    [ "$(readlink -- "$from")" = "$to" ] && [ "$(inode "$to")" = "$inode" ] || third "$from is a link to $(readlink -- "$from")"
    exit 0
  fi
  if [ -e "$from" ]; then
    [ "$(inode "$from")" = "$inode" ] || third "$from is not what it was"
    case $(state "$to") in
    absent) ;;
    empty) find "$to" -depth -type d -exec rmdir {} + || exit 1 ;;
    *) third "$to is taken" ;;
    esac
    mv -T -- "$from" "$to" || exit 1
  fi
  [ "$(inode "$to")" = "$inode" ] || third "$to is not what was at $from"
  ln -sT -- "$to" "$from" && chown -h --reference="$to" -- "$from" || exit 1
  sync "$(dirname -- "$from")" "$(dirname -- "$to")"
  ;;
return)
  from=$1 to=$2 inode=$3
  if [ -e "$from" ] && [ ! -L "$from" ]; then
    [ "$(inode "$from")" = "$inode" ] || third "$from is not what it was"
    exit 0
  fi
  [ "$(inode "$to")" = "$inode" ] || third "$to is not what was at $from"
  if [ -L "$from" ]; then
    [ "$(readlink -- "$from")" = "$to" ] || third "$from is a link to $(readlink -- "$from")"
    rm -- "$from" || exit 1
  fi
  mv -T -- "$to" "$from" || exit 1
  sync "$(dirname -- "$from")" "$(dirname -- "$to")"
  ;;
esac
