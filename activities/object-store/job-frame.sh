# The beginning of every job that moves an artifact: arguments, secrets, failures, and an end that leaves nothing.
# The job scripts of activities/postgres and activities/configuration-files follow this text in one file.
#
# Arguments are NAME=VALUE, none of them secret. Secrets come on stdin as NAME=VALUE lines and live in shell variables
# only: never in argv, in an environment or on a disk.
# stdout is the result, one JSON object. stderr is the log, with lines "guardia:progress JSON" and, last, "guardia:error JSON".
# Needs bash 5, coreutils, OpenSSL, curl 7.88 or newer.
set -u -o pipefail
umask 077
export LC_ALL=C
cd /

# Exit status of each failure; activities/object-store/job-failures.ts says what it means to an operator.
declare -A failure_status=(
  [bad-arguments]=64 [tool-missing]=69 [scratch-full]=70
  [database-unreachable]=71 [version-mismatch]=72 [database-busy]=73 [dump-failed]=74 [contents-unreadable]=75
  [compression-failed]=76 [encryption-failed]=77
  [store-refused]=78 [store-unavailable]=79 [upload-gone]=80 [too-many-parts]=81
  [path-missing]=82 [archive-failed]=83 [nothing-to-store]=84
  [artifact-damaged]=85 [artifact-missing]=86 [identity-refused]=87 [check-interrupted]=88
)

# Text as a JSON string. Control characters become spaces: it is for messages and names, not for data.
json_text() {
  local text=${1//[[:cntrl:]]/ }
  text=${text//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# fail CODE MESSAGE: one line for the worker, and the exit status of the code.
fail() {
  printf 'guardia:error {"code":"%s","message":%s}\n' "$1" "$(json_text "$2")" >&2
  exit "${failure_status[$1]}"
}

declare -A argument=()
recipients=() expected_tables=() required_paths=() optional_paths=()
for word in "$@"; do
  name=${word%%=*} value=${word#*=}
  case $name in
    recipient) recipients+=("$value") ;;
    expected-table) expected_tables+=("$value") ;;
    path) required_paths+=("$value") ;;
    optional-path) optional_paths+=("$value") ;;
    *) argument[$name]=$value ;;
  esac
done
need_arguments() {
  local name
  for name in "$@"; do
    [[ -n ${argument[$name]:-} ]] || fail bad-arguments "the argument $name= is missing"
  done
}
version_of() { "$@" --version 2>/dev/null | grep -Eo '[0-9]+\.[0-9][0-9.]*' | head -n 1; }
need_tools() {
  local tool missing=()
  for tool in "$@"; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  ((${#missing[@]} == 0)) || fail tool-missing "not installed on $(uname -n): ${missing[*]}"
}

declare -A secret=()
while IFS= read -r line; do
  secret[${line%%=*}]=${line#*=}
done
exec </dev/null

scratch=${GUARDIA_JOB_SCRATCH:?is set by the job frame}
[[ -d $scratch && -w $scratch ]] || fail bad-arguments "the scratch directory $scratch is not writable"
children=()
end_tree() { # PID; with its descendants, which a killed subshell would leave behind
  local child
  for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do end_tree "$child"; done
  kill "$1" 2>/dev/null
}
at_end() {
  local status=$? child
  trap - EXIT
  trap '' TERM INT HUP
  for child in "${children[@]}"; do end_tree "$child"; done
  before_end
  wait
  rm -rf "${scratch:?}"/*
  exit "$status"
}
before_end() { :; } # a script that leaves something elsewhere replaces this
trap at_end EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'exit 129' HUP

# A pause without a child process; a sleep would outlive a killed shell.
mkfifo "$scratch/pause"
exec {pause_fd}<>"$scratch/pause"
pause() { read -r -t "$1" -u "$pause_fd" || true; }

sha256_of() { # FILE -> hex digest; openssl, because it is seven times faster than sha256sum
  local line
  line=$(openssl dgst -sha256 -r "$1") && printf '%s' "${line%% *}"
}

# The credentials reach curl by a file descriptor.
curl_credentials() {
  local user=${secret[accessKeyId]:-}:${secret[secretAccessKey]:-}
  user=${user//\\/\\\\}
  printf 'user = "%s"\n' "${user//\"/\\\"}"
  if [[ -n ${secret[sessionToken]:-} ]]; then
    printf 'header = "x-amz-security-token: %s"\n' "${secret[sessionToken]}"
  fi
}
s3_curl() {
  curl --config /dev/fd/9 --silent --show-error --connect-timeout 10 --speed-limit 1024 --speed-time 30 \
    --aws-sigv4 "aws:amz:${argument[region]}:s3" --write-out '%{http_code}' "$@" 9< <(curl_credentials)
}
# Element of an S3 error body, for messages.
xml_element() { sed -n "s:.*<$2>\([^<]*\)</$2>.*:\1:p" "$1" 2>/dev/null | head -n 1; }

# Sorts a failed request into retry, refused, gone or missing, and says why in $why.
judge_request() { # CURL_STATUS HTTP_STATUS BODY_FILE ERROR_FILE
  local code
  why=
  if (($1 != 0)); then
    why="curl: $(tail -n 1 "$4" 2>/dev/null)"
    case $1 in
      1 | 2 | 3 | 26 | 60 | 77 | 83 | 91) verdict=refused ;; # wrong address, unreadable file, certificate not trusted
      23) verdict=scratch ;;
      *) verdict=retry ;;
    esac
    return
  fi
  code=$(xml_element "$3" Code)
  why="HTTP $2 ${code:-without an error code}: $(xml_element "$3" Message)"
  case $2:$code in
    *:NoSuchUpload) verdict=gone ;;
    *:RequestTimeTooSkewed) verdict=refused why="$why (the clock of $(uname -n) is wrong)" ;;
    *:RequestTimeout | *:BadDigest | *:XAmzContentSHA256Mismatch | *:IncompleteBody | *:SlowDown) verdict=retry ;;
    408:* | 409:* | 429:* | 5??:*) verdict=retry ;;
    404:*) verdict=missing ;;
    *) verdict=refused ;;
  esac
}
