# What a host is like, as lines NAME=VALUE, in one go and without changing anything. POSIX sh, as there may be no bash yet.
#   sh -c SCRIPT doctor login BECOME SCRIPT STATE ENDPOINT [DATABASE ...]
# BECOME: sudo or none. STATE: guardia's directory there. ENDPOINT: URL of the object store, or '-'.
# DATABASE: NAME MAJOR KIND PORT PLACE USER, KIND being peer, password or container; PLACE its address, project/service or container.
set -u
export LC_ALL=C PATH="${PATH:-}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

say() { # NAME VALUE: the first line of the value
  printf '%s=%s\n' "$1" "$(printf '%s' "$2" | head -n 1)"
}

if [ "$1" = login ]; then
  become=$2 script=$3
  shift 3
  say login "$(id -un)"
  if [ "$become" = sudo ] && [ "$(id -u)" != 0 ]; then
    if answer=$(sudo -n true 2>&1); then
      say sudo ok
      exec sudo -n -- /bin/sh -c "$script" doctor look "$@"
    fi
    say sudo "${answer:-refused}"
  fi
  exec /bin/sh -c "$script" doctor look "$@"
fi

shift
state=$1 endpoint=$2
shift 2
say time "$(date +%s.%N)"
say user "$(id -un)"
say os "$(. /etc/os-release 2>/dev/null && printf '%s' "${PRETTY_NAME:-}")"
if command -v apt-get >/dev/null; then say apt yes; fi
if [ -d /run/systemd/system ]; then say systemd yes; fi

for tool in bash flock setsid setpriv timeout ps awk sed grep tail head dd stat sync base64 tar openssl curl zstd age systemd-run docker; do
  command -v "$tool" >/dev/null && say "tool.$tool" "$(command -v "$tool")"
done
for tool in bash openssl curl zstd age; do
  case $tool in openssl) option=version ;; *) option=--version ;; esac
  say "version.$tool" "$("$tool" "$option" 2>/dev/null | grep -Eo '[0-9]+\.[0-9][0-9.]*' | head -n 1)"
done
if curl --help all 2>/dev/null | grep -q -e --aws-sigv4; then say sigv4 yes; fi
for program in /usr/lib/postgresql/*/bin/pg_dump /usr/pgsql-*/bin/pg_dump; do
  [ -x "$program" ] && say pgdump "$("$program" --version | grep -Eo '[0-9]+' | head -n 1)"
done

space() { # NAME DIRECTORY: free KiB where the directory is or would be, and whether it can be written
  at=$2
  while [ ! -d "$at" ] && [ "$at" != / ]; do at=$(dirname "$at"); done
  say "$1.freeKiB" "$(df -Pk "$at" 2>/dev/null | awk 'NR == 2 { print $4 }')"
  say "$1.freeInodes" "$(df -Pi "$at" 2>/dev/null | awk 'NR == 2 { print $4 }')"
  if [ -w "$at" ]; then say "$1.writable" yes; fi
}
space state "$state"
[ -d /dev/shm ] && space shm /dev/shm

if [ "$endpoint" != - ]; then
  if command -v curl >/dev/null; then
    say store "$(curl --silent --output /dev/null --connect-timeout 8 --max-time 15 --write-out '%{http_code} %{errormsg}' "$endpoint" 2>/dev/null)"
  fi
fi

for database in "$@"; do
  # shellcheck disable=SC2086 # words
  set -- $database
  name=$1 major=$2 kind=$3 port=$4 place=$5 user=$6
  for directory in "/usr/lib/postgresql/$major/bin" "/usr/pgsql-$major/bin"; do
    [ -x "$directory/pg_dump" ] && say "database.$name.pgdump" "$("$directory/pg_dump" --version | grep -Eo '[0-9]+\.?[0-9]*' | head -n 1)"
  done
  ready=
  for directory in "/usr/lib/postgresql/$major/bin" "/usr/pgsql-$major/bin" /usr/bin; do
    [ -z "$ready" ] && [ -x "$directory/pg_isready" ] && ready=$directory/pg_isready
  done
  case $kind in
  peer)
    id -u "$user" >/dev/null 2>&1 && say "database.$name.user" yes
    [ -n "$ready" ] && say "database.$name.ready" "$("$ready" -p "$port" 2>&1)"
    ;;
  password)
    [ -n "$ready" ] && say "database.$name.ready" "$("$ready" -h "$place" -p "$port" 2>&1)"
    ;;
  container)
    if command -v docker >/dev/null; then
      case $place in
      */*) docker ps --quiet --filter "label=com.docker.compose.project=${place%%/*}" --filter "label=com.docker.compose.service=${place#*/}" ;;
      *) docker container inspect --format '{{.State.Running}}' "$place" | grep true ;;
      esac 2>/dev/null | wc -l | { read -r count; say "database.$name.containers" "$count"; }
    fi
    ;;
  esac
done
say end yes
