# Looks at paths and changes one of them, atomically. Run as `bash -c SCRIPT paths COMMAND ARGUMENT...`.
#   look MOST-BYTES PATH...                                one line for each path
#   put PATH TYPE MODE OWNER GROUP TARGET NOW SUM         content by stdin, whose SHA-256 is SUM; NOW is the line, without its last field, that
#                                                         must stand there
# A line: TYPE MODE OWNER GROUP SIZE SHA256 TARGET CONTENT, '-' for what does not apply, TARGET and CONTENT in base64. Of a link to a directory, look
# tells MODE:OWNER:GROUP of that in the place of CONTENT, in base64 as well.
# Exit codes of put: 3 something else stands there, 4 it cannot be put there, 5 the directory is not empty.
set -u
export LC_ALL=C
umask 077

describe() { # PATH: the line without CONTENT
  local type size=- sum=- target=-
  if [[ -L $1 ]]; then
    type=symlink target=$(readlink -n -- "$1" | base64 -w0)
  elif [[ -d $1 ]]; then
    type=directory
  elif [[ -f $1 ]]; then
    type=file size=$(stat -c %s -- "$1") sum=$(sha256sum <"$1")
    sum=${sum%% *}
  elif [[ -e $1 ]]; then
    type=other
  else
    echo 'absent - - - - - -'
    return
  fi
  local mode owner group
  read -r mode owner group < <(stat -c '%a %U %G' -- "$1")
  [[ $owner == UNKNOWN ]] && owner=$(stat -c %u -- "$1")
  [[ $group == UNKNOWN ]] && group=$(stat -c %g -- "$1")
  printf '%s %04d %s %s %s %s %s\n' "$type" "$mode" "$owner" "$group" "$size" "$sum" "$target"
}

refuse() { # CODE MESSAGE
  echo "$2" >&2
  exit "$1"
}

put() { # PATH TYPE MODE OWNER GROUP TARGET NOW SUM
  local path=$1 type=$2 mode=$3 owner=$4 group=$5 target=$6 now parent draft
  now=$(describe "$path")
  [[ $now == "$7" ]] || refuse 3 "$path: $now"
  parent=$(dirname -- "$path")
  [[ -d $parent ]] || refuse 4 "$parent is no directory"
  # One draft for each path: what a power cut leaves is overwritten by the next attempt. Hidden, so that no `include *` reads it.
  draft=$parent/.$(basename -- "$path").guardia-draft
  [[ -d $draft && ! -L $draft ]] && rmdir -- "$draft"
  rm -f -- "$draft"
  case $type in
  file)
    [[ ${now%% *} == directory ]] && refuse 4 "$path is a directory"
    { cat >"$draft" && [[ $(sha256sum <"$draft") == "$8  -" ]] && chown -- "$owner:$group" "$draft" && chmod -- "$mode" "$draft" && sync "$draft"; } || {
      rm -f -- "$draft"
      refuse 4 "$path cannot be written"
    }
    mv -fT -- "$draft" "$path" || refuse 4 "$path cannot be replaced"
    ;;
  symlink)
    [[ ${now%% *} == directory ]] && refuse 4 "$path is a directory"
    target=$(base64 -d <<<"$target" && echo x)
    { ln -sT -- "${target%x}" "$draft" && chown -h -- "$owner:$group" "$draft" && mv -fT -- "$draft" "$path"; } ||
      refuse 4 "$path cannot be linked"
    ;;
  directory)
    if [[ ${now%% *} == directory ]]; then
      { chown -- "$owner:$group" "$path" && chmod -- "$mode" "$path"; } || refuse 4 "$path cannot be changed"
    elif [[ ${now%% *} == absent ]]; then
      { mkdir -- "$draft" && chown -- "$owner:$group" "$draft" && chmod -- "$mode" "$draft" && mv -T -- "$draft" "$path"; } || {
        rmdir -- "$draft" 2>/dev/null
        refuse 4 "$path cannot be made"
      }
    else
      refuse 4 "$path is no directory"
    fi
    ;;
  absent)
    case ${now%% *} in
    absent) ;;
    directory) rmdir -- "$path" 2>/dev/null || refuse 5 "$path is not empty" ;;
    *) rm -f -- "$path" || refuse 4 "$path cannot be removed" ;;
    esac
    ;;
  esac
  sync "$parent"
  # systemd reads its files when it is told to.
  case $path in
  /etc/systemd/* | /usr/lib/systemd/* | /lib/systemd/*) [[ -d /run/systemd/system ]] && systemctl daemon-reload ;;
  esac
  describe "$path"
}

command=$1
shift
case $command in
look)
  most=$1
  shift
  for path in "$@"; do
    printf '%s ' "$(describe "$path")"
    if [[ -f $path && ! -L $path ]]; then head -c "$most" -- "$path" | base64 -w0
    elif [[ -d $path && -L $path ]]; then describe "$path/." | cut -d ' ' -f 2-4 | tr ' ' : | tr -d '\n' | base64 -w0
    else printf -- -; fi
    echo
  done
  ;;
put) put "$@" ;;
esac
