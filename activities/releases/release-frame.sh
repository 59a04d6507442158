# The beginning of every script about releases: arguments NAME=VALUE, failures, the user of the application.
# A release is a directory RELEASES/ID; what is not finished is RELEASES/ID.partial. None of the arguments is secret; secrets for
# the environment of a command come on stdin as NAME=VALUE lines.
set -u -o pipefail
umask 022
export LC_ALL=C

fail() { # MESSAGE, as the last line of the log
  printf '%s\n' "$*" >&2
  exit 1
}
third_state() { # MESSAGE REMEDY: it is neither as before nor as this run makes it, as a rule because somebody else was here
  printf '%s\n%s\n' "$1" "${2:-Somebody changed it beside guardia: look who, put it right by hand, then try again}" >&2
  exit 3
}
# What went wrong for want of space is said so: programs word it in many ways.
space_in() { # DIRECTORY: a sentence where its file system is full
  local bytes inodes
  read -r bytes inodes < <(df --block-size=1024 --output=avail,iavail "$1" 2>/dev/null | tail -n 1)
  if ((${bytes:-9999} < 1024)) || [[ ${inodes:-1} == 0 ]]; then
    printf 'no space left in %s (%s KiB and %s inodes free)' "$1" "$bytes" "$inodes"
  fi
}
fail_for_space() { # MESSAGE
  local full
  full=$(space_in "${argument[releases]}")
  fail "${full:+$full: }$1"
}
# Of many lines, the first one is the cause; the others go to the log only.
cause_in() { # WORDS OF A PROGRAM
  printf '%s\n' "$1" >&2
  printf '%s' "${1%%$'\n'*}"
}

declare -A argument=()
shared=() environment_files=() environment_values=()
while (($# > 0)); do
  case $1 in
    --) shift; break ;;
    shared=*) shared+=("${1#*=}") ;;
    environment-file=*) environment_files+=("${1#*=}") ;;
    environment-value=*) environment_values+=("${1#*=}") ;;
    *) argument[${1%%=*}]=${1#*=} ;;
  esac
  shift
done

prepare_user() {
  local entry
  entry=$(getent passwd "${argument[user]}") || fail "there is no user ${argument[user]} on $(uname -n)"
  IFS=: read -r _ _ uid gid _ home _ <<<"$entry"
}
as_user() { # PROGRAM ARGUMENT...: as the application's user, with nothing of our environment
  local through=()
  (($(id -u) == uid)) || through=(setpriv --reuid "$uid" --regid "$gid" --init-groups --)
  env -i "HOME=$home" "USER=${argument[user]}" "LOGNAME=${argument[user]}" LANG=C.UTF-8 GIT_TERMINAL_PROMPT=0 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${through[@]}" "$@"
}

# The environment of a command: files as systemd reads them, then values, then secrets.
declare -A variables=()
read_environment() {
  local file line name value
  for file in "${environment_files[@]}"; do
    [[ -r $file ]] || fail "the environment file $file is not there"
    while IFS= read -r line || [[ -n $line ]]; do
      line=${line#"${line%%[![:space:]]*}"}
      [[ $line != [\#\;]* && $line == *=* ]] || continue
      name=${line%%=*} value=${line#*=}
      value=${value%"${value##*[![:space:]]}"}
      case $value in \"*\" | \'*\') value=${value:1:-1} ;; esac
      [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] && variables[$name]=$value
    done <"$file"
  done
  for line in "${environment_values[@]}"; do variables[${line%%=*}]=${line#*=}; done
  while IFS= read -r line; do variables[${line%%=*}]=${line#*=}; done
  exec </dev/null
}
# The variables reach the command by a file descriptor: the arguments of a program are for all to see.
run_command() { # SECONDS DIRECTORY PROGRAM ARGUMENT...
  local seconds=$1 directory=$2 name
  shift 2
  [[ -d $directory ]] || fail "there is no directory $directory"
  # shellcheck disable=SC2016 # the inner shell reads them
  as_user timeout --kill-after=10 "$seconds" bash -c 'cd "$1" || exit 126
    while IFS= read -r -d "" line; do export "${line?}"; done <&9
    exec 9<&-; shift; exec "$@"' command "$directory" "$@" </dev/null >&2 \
    9< <(for name in "${!variables[@]}"; do printf '%s=%s\0' "$name" "${variables[$name]}"; done)
}
