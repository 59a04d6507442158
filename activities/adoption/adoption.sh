# What was set up by hand. Run as `bash -c SCRIPT adoption COMMAND ARGUMENT...`.
#   checkout PATH RELEASES WRITABLE [SHARED TARGET]... -- [PATTERN]...  lines KEY VALUE...; `shared IN-CHECKOUT TARGET SHARED`, then a tab and where it
#                                       leads if it is a link; `elsewhere PLACE` for a goal on another file system; `git-says WORDS` where git
#                                       tells no commit of a checkout that has a .git; `unnamed FILE` for what is neither
#                                       in git nor shared nor matched by a pattern of .gitignore, a directory as a whole, with a / at its end
#   units PATH UNIT...                  UNIT FILE of settings that name PATH or what is below it, except the drop-in of this runbook
#   projects                            PROJECT DIRECTORY of compose projects
#   where FROM TO                       FROM-STATE TO-STATE
#   relocate FROM TO [UNIT]...          moves FROM to TO and leaves a link; goes on where an earlier attempt stopped. The units write there: they are
#                                       stopped before anything is copied
#   return FROM TO [UNIT]...            the way back
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
mounts() { # PATH: mount points at it or below it, as paths from there; what it links to is elsewhere
  local real at
  real=$(realpath -- "$1") || return
  cut -d ' ' -f 5 /proc/self/mountinfo | while read -r at; do
    printf -v at %b "$at" # a blank is \040 there
    case $at in "$real") echo . ;; "$real"/*) echo "${at#"$real"/}" ;; esac
  done
}
third() {
  echo "$1" >&2
  exit 3
}
# One move at a time: an earlier attempt, or the step whose undo this is, may still be at work here.
alone() { # PATH
  exec 9<"$(existing "$(dirname -- "$1")")" && flock --timeout 100 9 && return
  echo "another move of $1 does not end" >&2
  exit 1
}

draft_of() { echo "$(dirname -- "$1")/.$(basename -- "$1").guardia-draft"; }
# By rename: nothing is copied. A file system that cannot rename a directory (overlayfs, of what a lower layer holds) gets a copy that is
# compared before the original goes; a mark says that it is whole, so that an interrupted move goes on.
move() { # FROM TO [UNIT]...
  local from=$1 to=$2 draft
  shift 2
  ! mountpoint -q -- "$from" || third "$from is a mount point"
  same_disk "$from" "$to" || third "$to is on another file system than $from"
  perl -e 'rename($ARGV[0], $ARGV[1]) or exit 1' "$from" "$to" && return
  draft=$(draft_of "$to")
  rm -rf -- "$draft"
  # A reboot since has started them.
  for unit in "$@"; do
    systemctl stop -- "$unit" 2>/dev/null
    ! systemctl -q is-active -- "$unit" || { echo "$unit does not stop" >&2; exit 1; }
  done
  cp -a -T -- "$from" "$draft" && diff -rq --no-dereference -- "$from" "$draft" >&2 && sync -f "$draft" && : >"$draft.complete" && sync "$(dirname -- "$to")" || {
    rm -rf -- "$draft"
    echo "$from could not be copied" >&2
    exit 1
  }
  perl -e 'rename($ARGV[0], $ARGV[1]) or exit 1' "$draft" "$to" && sync "$(dirname -- "$to")" && rm -rf -- "$from" && rm -f -- "$draft.complete" || exit 1
}
# Finishes a move by copy that was interrupted; fails where there is nothing to finish.
finish() { # FROM TO
  local draft only
  draft=$(draft_of "$2")
  [ -e "$draft.complete" ] || return 1
  if [ -e "$draft" ] || [ -L "$draft" ]; then
    # The original is whole, and may have been written to since: it is copied anew.
    rm -rf -- "$draft" && rm -f -- "$draft.complete" || exit 1
    return 1
  fi
  [ -e "$2" ] || [ -L "$2" ] || third "the copy of $1 is gone"
  # Of the original a part may be gone. What is left of it goes only where the copy has it as well.
  if [ -e "$1" ] || [ -L "$1" ]; then
    only=$(diff -rq --no-dereference -- "$1" "$2")
    [ $? -le 1 ] || third "$1 cannot be compared with its copy $2"
    only=$(while read -r line; do case $line in '' | "Only in $2:"* | "Only in $2/"*) ;; *) echo "$line" ;; esac; done <<<"$only")
    [ -z "$only" ] || third "$1 was written to after it had been copied to $2: $only"
  fi
  rm -rf -- "$1" && rm -f -- "$draft.complete" || exit 1
}
# Of directories: that of a file may be another one on overlayfs.
same_disk() { # FROM TO
  [ "$(stat -c %d -- "$(existing "$(dirname -- "$1")")")" = "$(stat -c %d -- "$(existing "$2")")" ]
}

case $command in
checkout)
  path=$1 releases=$2 writable=$3
  shift 3
  if [ -L "$path" ]; then kind="link"; elif [ -d "$path" ]; then kind=checkout; elif [ -e "$path" ]; then kind=other; else kind=absent; fi
  echo "kind $kind"
  echo "releases $(directory "$releases")"
  echo "writable $(directory "$writable")"
  [ "$kind" = link ] && echo "link $(readlink -- "$path")"
  [ "$kind" = checkout ] || [ "$kind" = link ] || exit 0
  echo "owner $(stat -L -c '%U %G' -- "$path")"
  work=$(mktemp -d) || exit 1
  trap 'rm -rf "$work"' EXIT
  # It is somebody else's: that is let be by a file, because git 2.35 and those with its mends take it from no command line; and nothing that it
  # configures is run.
  printf '[safe]\n\tdirectory = *\n' >"$work/.gitconfig" || exit 1
  repository() { HOME=$work XDG_CONFIG_HOME=$work git -c core.fsmonitor=false -c core.quotePath=false -C "$path" "$@"; }
  commit=$(repository rev-parse --verify HEAD 2>"$work/said") || commit=''
  echo "commit $commit"
  [ "$kind" = checkout ] && [ -z "$commit" ] && [ -e "$path/.git" ] && sed -n '1s/^.*: line [0-9]*: //; 1s/^/git-says /p' "$work/said"
  for place in "$releases" "$writable"; do
    [ "$(stat -L -c %d -- "$path")" = "$(stat -c %d -- "$(existing "$place")")" ] || echo "elsewhere $place"
  done
  mounts "$path" | sed 's/^/mount /'
  prefix=/$(repository rev-parse --show-prefix 2>/dev/null)
  known=()
  while [ "$1" != -- ]; do
    inside=$(state "$path/$1")
    case $inside in empty | taken) inside=there ;; esac
    printf 'shared %s %s %s\t%s\n' "$inside" "$(state "$2")" "$1" "$(readlink -- "$path/$1")"
    [ "$inside" != there ] || same_disk "$path/$1" "$2" || echo "elsewhere $2"
    known+=(-x "$prefix$(sed 's/[][*?\\]/\\&/g' <<<"$1")")
    shift 2
  done
  shift
  for pattern in "$@"; do known+=(-x "$pattern"); done
  [ "$kind" = checkout ] && [ -n "$commit" ] || exit 0
  unnamed=$(repository ls-files --others --directory --no-empty-directory "${known[@]}" -x "$prefix.guardia-release.json") || exit 1
  [ -z "$unnamed" ] || sed -n '1,20s/^/unnamed /p; 21s/.*/unnamed .../p' <<<"$unnamed"
  ;;
units)
  path=$1
  shift
  for unit in "$@"; do
    { systemctl show --value -p FragmentPath -- "$unit" && systemctl show --value -p DropInPaths -- "$unit" | tr ' ' '\n'; } |
      while read -r file; do
        [ -f "$file" ] && [ "$(basename -- "$file")" != guardia-shared.conf ] || continue
        ! grep -v '^[[:space:]]*[#;]' -- "$file" | grep -qF -- "$path" || echo "$unit $file"
      done
  done
  ;;
projects)
  command -v docker >/dev/null && docker info >/dev/null 2>&1 || exit 0
  docker ps --all --format '{{.Label "com.docker.compose.project"}} {{.Label "com.docker.compose.project.working_dir"}}' | grep -v '^ ' | sort -u
  ;;
where) echo "$(state "$1") $(state "$2")" ;;
relocate)
  from=$1 to=$2
  shift 2
  alone "$from"
  if [ -L "$from" ]; then
    [ "$(readlink -- "$from")" = "$to" ] && [ -e "$to" ] && exit 0
    third "$from is a link to $(readlink -- "$from")"
  fi
  finish "$from" "$to" || case "$(state "$from") $(state "$to")" in
  'absent absent') third "$from is not there" ;;
  absent*) ;;
  *' absent') move "$from" "$to" "$@" ;;
  *' empty')
    # What was made ready for it gives way.
    find "$to" -depth -type d -exec rmdir {} + && move "$from" "$to" "$@"
    ;;
  *) third "$to is taken" ;;
  esac || exit
  ln -sT -- "$to" "$from" && chown -h --reference="$to" -- "$from" || exit 1
  sync "$(dirname -- "$from")" "$(dirname -- "$to")"
  ;;
return)
  from=$1 to=$2
  shift 2
  alone "$from"
  if [ -L "$from" ]; then
    [ "$(readlink -- "$from")" = "$to" ] && [ -e "$to" ] || third "$from is a link to $(readlink -- "$from")"
    rm -- "$from" || exit 1
  fi
  # The way there may have stopped in its middle: then what is at the old place is still whole, or what is at the new one is.
  finish "$from" "$to" || true
  finish "$to" "$from" || case "$(state "$from") $(state "$to")" in
  'absent absent') third "neither $from nor $to is there" ;;
  *' absent') ;;
  absent*) move "$to" "$from" "$@" ;;
  *) third "$from and $to are both there" ;;
  esac || exit
  rm -rf -- "$(draft_of "$to")"
  sync "$(dirname -- "$from")" "$(dirname -- "$to")"
  ;;
esac
