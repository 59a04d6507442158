# Runs one job's command and writes how it ended, whoever is looking: `sh runner ID DIRECTORY VOLATILE SECONDS`.
# Holds a lock on DIRECTORY/alive for as long as it lives: that is how others see, without polling, that it has ended.
set -u
umask 077
id=$1 job=$2 volatile=$3 seconds=$4
exec 9>>"$job/alive" || exit 1
flock -w 10 9 || exit 1
[ -e "$job/started" ] && exit 1
# The room for the status is taken now, so that a disk which fills up later cannot lose it.
head -c 4096 /dev/zero >"$job/status.pending" || exit 1
mkdir -p "$volatile/scratch" && : >"$job/stdout" && : >"$job/stderr" || exit 1
if [ -e "$volatile/stdin" ]; then
  exec 3<"$volatile/stdin"
  rm -f "$volatile/stdin"
else
  exec 3</dev/null
fi
# Written before the command can act: a job that is lost without this mark has done nothing.
date +%s >"$job/started.new" && sync "$job/started.new" && mv "$job/started.new" "$job/started" && sync "$job" || exit 1
begin=$(date +%s%3N)
export GUARDIA_JOB="$id" GUARDIA_JOB_DIRECTORY="$job" GUARDIA_JOB_SCRATCH="$volatile/scratch"
export HOME="${HOME:-/root}" LANG=C.UTF-8 PATH="${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"
cd "$volatile/scratch" || exit 1
timeout -k 10 "$seconds" /bin/sh "$job/command" <&3 3<&- 9>&- >"$job/stdout" 2>"$job/stderr" &
child=$!
exec 3<&-
trap 'kill -TERM "$child" 2>/dev/null' TERM
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do # a signal to this runner ended the wait early
  wait "$child"
  code=$?
done
end=$(date +%s%3N)
timedout=no
if [ $((end - begin)) -ge $((seconds * 1000)) ] && { [ "$code" = 124 ] || [ "$code" = 137 ]; }; then timedout=yes; fi
# Nothing that the command left behind outlives the job. (Without the mark, so that these tools do not find themselves.)
unset GUARDIA_JOB
for signal in TERM KILL; do
  left=
  # shellcheck disable=SC2013 # words are lines here
  for pid in $(grep -slzxF "GUARDIA_JOB=$id" /proc/[0-9]*/environ | cut -d/ -f3); do
    parent=$(ps -o ppid= -p "$pid" | tr -d ' ')
    if [ -n "$parent" ] && [ "$parent" != "$$" ] && [ "$pid" != "$$" ]; then left="$left $pid"; fi
  done
  [ -z "$left" ] && break
  # shellcheck disable=SC2086 # one argument for each process
  kill -s "$signal" $left 2>/dev/null
  sleep 0.2
done
rm -rf "$volatile"
[ -e "$job/cancelled" ] && exit 0
printf 'exitCode=%s\nstartedAt=%s\nendedAt=%s\ntimedOut=%s\n\n' "$code" "$begin" "$end" "$timedout" | dd of="$job/status.pending" conv=notrunc 2>/dev/null
sync "$job/status.pending"
mv "$job/status.pending" "$job/status"
sync "$job"
