# Everything that guardia keeps on a host, as one POSIX script: jobs, fence and journal below the state directory.
# Sent with each call as `sh -c SCRIPT guardia COMMAND STATE ...`; needs coreutils, util-linux and procps only.
#   STATE/jobs/ID/     one job: command, script, runner, boot, fence, started, stdout, stderr, status, cancelled
#   STATE/fence        NUMBER RUN open|closed LEFT: the run that may act on this host, and the one that left it open before
#   STATE/holders/RUN  the workflow id of a run that works on this host now: the fence's holder, and runs under its fence
#   STATE/journal/RUN/ what the steps of a run have to remember for their undo, mode 0600
#   STATE/left/RUN     the workflow id of a run that was terminated here and has a journal: somebody has to see to what it changed
# What a caller sends by stdin is counted (BYTES): nothing begins before it has arrived whole, as a caller that dies looks like its end.
# Exit codes: 0 done, 90 fenced, 91 no space left, 92 something missing on the host, 93 no such job or journal entry, 94 stdin was cut.
set -u
umask 077
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
command=$1 state=$2
shift 2
volatile=/dev/shm/guardia-$(id -u)

refuse() { # CODE MESSAGE
  printf 'guardia: %s\n' "$2" >&2
  exit "$1"
}

# A write that failed: for want of space, or for another reason that the last error tells.
cannot_write() {
  free=$(df -Pk "$state" 2>/dev/null | awk 'NR == 2 { print $4 }')
  inodes=$(df -Pi "$state" 2>/dev/null | awk 'NR == 2 { print $4 }')
  if [ "${free:-1}" -lt 64 ] || [ "${inodes:-1}" = 0 ]; then refuse 91 "no space left in $state (${free:-?} KiB and ${inodes:-?} inodes free)"; fi
  refuse 92 "cannot write below $state"
}

prepare() {
  for tool in flock setsid timeout tail dd ps; do
    command -v "$tool" >/dev/null || refuse 92 "$tool is missing on this host (packages coreutils, util-linux and procps)"
  done
  mkdir -p "$state" "$state/jobs" "$state/journal" 2>/dev/null || cannot_write
  prepare_memory
}

prepare_memory() {
  mkdir -p "$volatile" || refuse 92 "cannot make $volatile"
  # /dev/shm is open to all: a directory that somebody else made there first is refused.
  if [ ! -O "$volatile" ] || [ -L "$volatile" ]; then refuse 92 "$volatile belongs to another user"; fi
}

# Standard input, whole, as file descriptor 3. It may be secret: it lies in memory and has no name. Before any lock is taken, as a link that
# is half dead gives neither bytes nor an end.
receive() { # BYTES
  exec 3</dev/null
  [ "$1" = 0 ] && return 0
  prepare_memory
  arriving=$(mktemp "$volatile/arriving.XXXXXXXX") || refuse 91 "no space left in $volatile"
  exec 3<"$arriving" 4>"$arriving"
  rm -f "$arriving"
  timeout 60 head -c "$1" >&4
  case $? in
  0) ;;
  124) refuse 94 "standard input did not arrive within 60 s" ;;
  *) refuse 91 "no space left in $volatile" ;;
  esac
  exec 4>&-
  arrived=$(stat -L -c %s /proc/self/fd/3)
  [ "$arrived" = "$1" ] || refuse 94 "standard input ended after ${arrived:-0} of $1 bytes"
}

with_lock() { # one change at a time
  exec 8>>"$state/lock" || cannot_write
  flock 8
}

has_systemd() { [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ]; }

# The fence: a call that carries a lower number than the host's, or the number of a run that has ended, is refused.
read_fence() {
  number=0 holder=none phase=closed left=-
  [ -s "$state/fence" ] && read -r number holder phase left <"$state/fence"
  return 0
}
check_fence() { # NUMBER ('-' for a call that needs none)
  [ "$1" = - ] && return 0
  read_fence
  if [ "$1" -lt "$number" ] || { [ "$1" -eq "$number" ] && [ "$phase" != open ]; }; then
    refuse 90 "fenced: this call carries number $1, the host is at $number ($holder, $phase)"
  fi
}

replace_file() { # FILE, content from stdin: the whole file or nothing, also over a power cut
  cat >"$1.new" && sync "$1.new" && mv "$1.new" "$1" && sync "$(dirname "$1")"
}

is_alive() { # the runner holds this lock for as long as it lives
  [ -e "$1/alive" ] && ! flock -n -s "$1/alive" true
}

# finished, cancelled, running, lost-rebooted, lost-killed, waiting (made, but its command never started) or absent
state_of() {
  if [ ! -d "$1" ]; then echo absent
  elif [ -s "$1/status" ]; then echo finished
  elif is_alive "$1"; then echo running
  elif [ -s "$1/status" ]; then echo finished # it ended between the two looks
  elif [ -e "$1/cancelled" ]; then echo cancelled
  elif [ ! -e "$1/started" ]; then echo waiting
  elif [ "$(cat "$1/boot" 2>/dev/null)" != "$(cat /proc/sys/kernel/random/boot_id)" ]; then echo lost-rebooted
  else echo lost-killed; fi
}

# Every process that carries the job's mark in its environment, and everything below those, however it was forked.
processes_of() { # ID
  marked=$(grep -slzxF "GUARDIA_JOB=$1" /proc/[0-9]*/environ | cut -d/ -f3)
  [ -n "$marked" ] || return 0
  ps -eo pid=,ppid= | awk -v marked="$marked" '
    { parent[$1] = $2 }
    END {
      split(marked, first, "\n"); for (i in first) { inside[first[i]] = 1 }
      do { grew = 0; for (pid in parent) if (!(pid in inside) && (parent[pid] in inside)) { inside[pid] = 1; grew = 1 } } while (grew)
      for (pid in inside) if (pid in parent) print pid
    }'
}

# Short commands under a lower number of this fence that are still under way; their shells hold a lock for as long as they run. A machine
# that runs containers sees their processes too: those are under the fence of a host of its own.
commands_below() { # NUMBER
  own=$(readlink /proc/self/ns/pid)
  for environ in $(grep -slzE '^GUARDIA_FENCE=[0-9]+ ' /proc/[0-9]*/environ); do
    mark=$(tr '\0' '\n' <"$environ" 2>/dev/null | sed -n 's/^GUARDIA_FENCE=//p' | head -n 1)
    if [ "${mark#* }" = "$state" ] && [ "${mark%% *}" -lt "$1" ] && [ "$(readlink "${environ%/environ}/ns/pid")" = "$own" ]; then
      echo "$environ" | cut -d/ -f3
    fi
  done
}

# Waits for them a moment, as they are short and harmless to let end, then stops them. Nothing of an older run acts after this.
stop_commands_below() { # NUMBER
  timeout 5 flock "$state/acting" true && [ -z "$(commands_below "$1")" ] && return 0
  for signal in TERM KILL KILL; do
    pids=$(commands_below "$1")
    [ -z "$pids" ] && break
    # shellcheck disable=SC2086 # one argument for each process
    kill -s "$signal" $pids 2>/dev/null
    echo "stopped=$(echo "$pids" | wc -w) command(s)"
    sleep 1
  done
  timeout 10 flock "$state/acting" true || refuse 92 "commands of an earlier run do not end"
}

stop_job() { # ID: ends the whole process tree and waits until it is gone
  if has_systemd; then
    systemctl stop "guardia-job-$1.service" 2>/dev/null
    systemctl reset-failed "guardia-job-$1.service" 2>/dev/null
  fi
  for signal in TERM TERM KILL KILL KILL; do
    pids=$(processes_of "$1")
    [ -z "$pids" ] && break
    # shellcheck disable=SC2086 # one argument for each process
    kill -s "$signal" $pids 2>/dev/null
    tries=0
    while [ "$tries" -lt 30 ] && [ -n "$(processes_of "$1")" ]; do
      tries=$((tries + 1))
      sleep 0.1
    done
  done
  rm -rf "${volatile:?}/$1"
}

launch() { # ID DIRECTORY SECONDS
  date +%s >"$2/launched" || cannot_write
  if has_systemd; then
    systemctl stop "guardia-job-$1.service" 2>/dev/null # a stale unit of this name, whose directory is gone
    systemctl reset-failed "guardia-job-$1.service" 2>/dev/null
    systemd-run --quiet --collect --unit="guardia-job-$1" --description="guardia job $1" \
      --property=Type=exec --property=KillMode=control-group --property=TimeoutStopSec=10 --property=OOMPolicy=stop \
      --setenv="GUARDIA_JOB=$1" -- /bin/sh "$2/runner" "$1" "$2" "$volatile/$1" "$3" >&2 || refuse 92 "systemd-run refused the unit"
  else
    GUARDIA_JOB=$1 setsid -f /bin/sh "$2/runner" "$1" "$2" "$volatile/$1" "$3" </dev/null >/dev/null 2>&1 8>&-
  fi
  tries=0
  while [ ! -e "$2/started" ] && [ ! -s "$2/status" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 500 ] && ! is_alive "$2" && [ ! -e "$2/started" ]; then
      # It must not begin after all, once it was said that it did not.
      : >"$2/cancelled"
      stop_job "$1"
      cannot_write
    fi
    sleep 0.02
  done
}

print_state() { # STATE DIRECTORY TAIL-BYTES: a header, an empty line, then the two tails
  out=0 err=0
  [ -e "$2/stdout" ] && out=$(stat -c %s "$2/stdout")
  [ -e "$2/stderr" ] && err=$(stat -c %s "$2/stderr")
  keepout=$out keeperr=$err
  [ "$out" -gt "$3" ] && keepout=$3
  [ "$err" -gt "$3" ] && keeperr=$3
  printf 'state=%s\n' "$1"
  [ -s "$2/status" ] && grep -a '=' "$2/status"
  printf 'stdoutBytes=%s\nstderrBytes=%s\nstdoutTail=%s\nstderrTail=%s\n\n' "$out" "$err" "$keepout" "$keeperr"
  [ "$keepout" -gt 0 ] && tail -c "$keepout" "$2/stdout" | head -c "$keepout"
  [ "$keeperr" -gt 0 ] && tail -c "$keeperr" "$2/stderr" | head -c "$keeperr"
  return 0
}

case $command in
start) # FENCE ID SECONDS AGAIN-IF-LOST COMMAND-BYTES SCRIPT-BYTES RUNNER-BYTES STDIN-BYTES; the four contents by stdin
  fence=$1 id=$2 seconds=$3 again=$4
  job=$state/jobs/$id
  prepare
  receive "$(($5 + $6 + $7 + $8))"
  with_lock
  check_fence "$fence"
  now=$(state_of "$job")
  case $now in
  lost-*) if [ "$again" = yes ]; then stop_job "$id"; rm -rf "$job"; now=absent; fi ;;
  waiting) rm -rf "$job"; now=absent ;;
  esac
  if [ "$now" = absent ]; then
    rm -rf "$job.new" "${volatile:?}/$id"
    mkdir "$job.new" "$volatile/$id" || cannot_write
    { head -c "$5" >"$job.new/command" && head -c "$6" >"$job.new/script" && head -c "$7" >"$job.new/runner"; } <&3 || cannot_write
    [ "$(stat -c %s "$job.new/command") $(stat -c %s "$job.new/script") $(stat -c %s "$job.new/runner")" = "$5 $6 $7" ] || cannot_write
    # What may be secret is only ever in memory, and only until the command has read it.
    if [ "$8" -gt 0 ]; then
      { head -c "$8" >"$volatile/$id/stdin" <&3 && [ "$(stat -c %s "$volatile/$id/stdin")" = "$8" ]; } || refuse 91 "no space left in $volatile"
    fi
    exec 3<&-
    printf '%s\n' "$fence" >"$job.new/fence" || cannot_write
    cat /proc/sys/kernel/random/boot_id >"$job.new/boot" || cannot_write
    { mv "$job.new" "$job" && sync "$state/jobs"; } || cannot_write
    launch "$id" "$job" "$seconds"
    echo started
  else
    echo "$now"
  fi
  ;;
follow) # ID OFFSET: prints the job's standard error from this byte on, until it ends (or five minutes: then follow again)
  job=$state/jobs/$1
  [ -d "$job" ] || refuse 93 "no job $1"
  : >>"$job/stderr"
  timeout 300 flock -s "$job/alive" true &
  ended=$!
  tail -c "+$(($2 + 1))" -f --pid="$ended" -s 0.2 "$job/stderr" 2>/dev/null
  ;;
inspect) # ID TAIL-BYTES
  job=$state/jobs/$1
  print_state "$(state_of "$job")" "$job" "$2"
  ;;
log) # ID BYTES: the last bytes of what the job printed, both streams one after the other
  job=$state/jobs/$1
  [ -d "$job" ] || refuse 93 "no job $1"
  for stream in stdout stderr; do
    [ -s "$job/$stream" ] || continue
    printf '== %s, %s bytes ==\n' "$stream" "$(stat -c %s "$job/$stream")"
    tail -c "$2" "$job/$stream"
    printf '\n'
  done
  ;;
cancel) # ID: stops the job; a start of it that is still under way comes too late
  prepare
  with_lock
  job=$state/jobs/$1
  mkdir -p "$job" || cannot_write
  [ -s "$job/status" ] || { : >"$job/cancelled" && sync "$job"; } || cannot_write
  stop_job "$1"
  state_of "$job"
  ;;
list) # every job: ID STATE FENCE
  for job in "$state"/jobs/*/; do
    [ -d "$job" ] || continue
    job=${job%/}
    case $job in *.new) continue ;; esac
    echo "$(basename "$job") $(state_of "$job") $(cat "$job/fence" 2>/dev/null || echo -)"
  done
  ;;
forget) # PREFIX: removes what is left of a run's jobs that are not running
  prepare
  with_lock
  for job in "$state/jobs/$1"*; do
    [ -d "$job" ] || continue
    [ "$(state_of "$job")" = running ] && continue
    rm -rf "$job" "${volatile:?}/$(basename "$job")"
  done
  ;;
raise) # RUN WORKFLOW: takes the host over for this run; ends what a run with a lower number left running
  prepare
  with_lock
  read_fence
  if [ "$holder" = "$1" ]; then
    if [ "$phase" != open ]; then refuse 90 "fenced: run $1 has ended on this host"; fi
  else
    left=-
    if [ "$phase" = open ]; then
      left=$holder
      mkdir -p "$state/left" || cannot_write
      for run in "$state"/holders/*; do
        name=$(basename "$run")
        [ "$name" = "$holder" ] || left="$left $name"
        [ -d "$state/journal/$name" ] || continue
        replace_file "$state/left/$name" <"$run" || cannot_write
      done
    fi
    number=$((number + 1))
    rm -rf "${state:?}/holders"
    mkdir -p "$state/holders" && echo "$2" >"$state/holders/$1" || cannot_write
    echo "$number $1 open $left" | replace_file "$state/fence" || cannot_write
  fi
  # The run, and those that were steps of it; also for the second call of a run whose first answer was lost.
  for run in $left; do echo "left=$run"; done
  for job in "$state"/jobs/*/; do
    [ -d "$job" ] || continue
    job=${job%/}
    [ "$(state_of "$job")" = running ] || continue
    lower=$(cat "$job/fence" 2>/dev/null || echo 0)
    if [ "$lower" != - ] && [ "$lower" -lt "$number" ]; then
      : >"$job/cancelled"
      stop_job "$(basename "$job")"
      echo "stopped=$(basename "$job")"
    fi
  done
  stop_commands_below "$number"
  for run in "$state"/left/*; do
    [ -e "$run" ] && echo "unrepaired=$(basename "$run") $(cat "$run")"
  done
  echo "number=$number"
  ;;
join) # FENCE RUN WORKFLOW: this run works under the fence of another one
  prepare
  with_lock
  check_fence "$1"
  mkdir -p "$state/holders" && echo "$3" >"$state/holders/$2" || cannot_write
  ;;
left) # runs that may have left changes here: left|open RUN WORKFLOW STEP..., the steps that have a journal entry
  # `left`: another run has taken the host over since; `open`: it was the last one, and either still goes on or was terminated.
  read_fence
  for run in "$state"/left/* "$state"/holders/*; do
    [ -e "$run" ] || continue
    name=$(basename "$run")
    as=left
    if [ "$(basename "$(dirname "$run")")" = holders ]; then
      if [ "$phase" != open ] || [ ! -d "$state/journal/$name" ]; then continue; fi
      as=open
    fi
    # shellcheck disable=SC2012 # names of steps have letters, digits and hyphens only
    echo "$as $name $(cat "$run") $(ls "$state/journal/$name" 2>/dev/null | grep -v '\.new$' | tr '\n' ' ')"
  done
  ;;
part) # RUN: the end of `join`
  rm -f "${state:?}/holders/$1"
  ;;
repaired) # FENCE RUN: what this run has left was seen to
  prepare
  with_lock
  check_fence "$1"
  for job in "$state/jobs/$2"-*; do
    [ -d "$job" ] && [ "$(state_of "$job")" != running ] && rm -rf "$job"
  done
  rm -rf "${state:?}/left/$2" "${state:?}/journal/$2"
  ;;
close) # RUN again|for good: the run has ended, or comes again later; whatever of it is still under way comes too late
  prepare
  with_lock
  read_fence
  if [ "$holder" = "$1" ] && [ "$phase" = open ]; then
    if [ "$2" = again ]; then holder=none; fi
    echo "$number $holder closed" | replace_file "$state/fence" || cannot_write
    rm -rf "${state:?}/holders"
  fi
  ;;
journal-put) # FENCE RUN STEP BYTES: content by stdin. The first entry of a step stays: prints `written`, or `kept` and the one that stays
  prepare
  receive "$4"
  with_lock
  check_fence "$1"
  [ -d "$state/journal/$2" ] || { mkdir -p "$state/journal/$2" && sync "$state/journal"; } || cannot_write
  if [ -e "$state/journal/$2/$3" ]; then
    echo kept
    cat "$state/journal/$2/$3"
  else
    replace_file "$state/journal/$2/$3" <&3 || cannot_write
    echo written
  fi
  ;;
journal-get) # RUN STEP
  # An entry that cannot be seen is another answer than none: its undo would be left out.
  if [ -e "$state" ] && [ ! -x "$state" ]; then refuse 92 "cannot look below $state"; fi
  [ -e "$state/journal/$1/$2" ] || refuse 93 "no journal entry of $2"
  cat "$state/journal/$1/$2"
  ;;
journal-forget) # RUN
  rm -rf "${state:?}/journal/$1"
  ;;
run) # FENCE SECONDS BYTES ARGUMENT...: a short command, with its standard input
  fence=$1 seconds=$2
  receive "$3"
  shift 3
  [ "$fence" = - ] && exec timeout -k 5 "$seconds" "$@" <&3 3<&-
  # Whoever raises the fence waits for this lock: the command is refused, or it is over before the other run begins.
  exec 7>>"$state/acting" || cannot_write
  flock -s 7
  check_fence "$fence"
  GUARDIA_FENCE="$fence $state" timeout -k 5 "$seconds" "$@" <&3 3<&- 7>&-
  ;;
*) refuse 92 "unknown command $command" ;;
esac
