# Speaks with HAProxy through its admin socket. Needs perl-base, which Debian and Ubuntu always have.
#   observe SOCKET | set SOCKET STATE SECONDS SERVER...   SERVER: BACKEND/NAME; STATE: ready, drain or maint
# Prints "server BACKEND/NAME ADMIN SESSIONS QUEUED CHECK" for every server; ADMIN is ready, drain or maint, CHECK as HAProxy words it.
set -u -o pipefail
export LC_ALL=C

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}
act=$1 socket=$2
[[ -S $socket ]] || fail "there is no admin socket $socket: HAProxy does not run, or has none (stats socket ... level admin)"
ask() { # COMMAND: its answer
  # shellcheck disable=SC2016 # perl reads them
  perl -MIO::Socket::UNIX -e '
    my $s = IO::Socket::UNIX->new(Peer => $ARGV[0], Timeout => 10) or die "the admin socket does not answer: $!\n";
    print $s "$ARGV[1]\n"; $s->shutdown(1); local $/; print <$s>;' "$socket" "$1" ||
    fail "the admin socket $socket does not answer"
}
# The state that the administrator gave: bits of srv_admin_state. Sessions and checks are in the statistics.
servers() {
  local state statistics
  state=$(ask 'show servers state') && statistics=$(ask 'show stat -1 4 -1') || return
  awk -v OFS=' ' '
    FNR == NR { if ($1 ~ /^[0-9]+$/ && NF > 10) {
        # In the last layout the fields are be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state
        bits = $7; admin[$2 "/" $4] = (bits % 2 || int(bits / 2) % 2 || int(bits / 4) % 2) ? "maint" : (int(bits / 8) % 2 || int(bits / 16) % 2) ? "drain" : "ready" }
      next }
    /^# / { split(substr($0, 3), names, ","); for (i in names) column[names[i]] = i; next }
    NF { split($0, value, ","); name = value[column["pxname"]] "/" value[column["svname"]]
      if (name in admin) { check = value[column["status"]]; gsub(/ /, "_", check)
        print "server", name, admin[name], value[column["scur"]] + 0, value[column["qcur"]] + 0, check } }
  ' <(printf '%s\n' "$state") <(printf '%s\n' "$statistics")
}
[[ $act != observe ]] || { servers; exit; }

state=$3 seconds=$4
shift 4
# Two that leave at the same time must not both find the other one there
exec 9<"$(dirname -- "$socket")" && flock --timeout 30 9 || fail "another change of $socket does not end"
now=$(servers) || exit
for server in "$@"; do
  grep -q "^server $server " <<<"$now" || fail "HAProxy has no server $server"
done
# Somebody has to be left: another server of the same backend that answers and takes requests. A server that does not answer takes nobody's place.
if [[ $state != ready ]]; then
  for server in "$@"; do
    grep -qE "^server $server ready [0-9]+ [0-9]+ (UP|no_check)" <<<"$now" || continue
    others=$(grep "^server ${server%%/*}/" <<<"$now" | while read -r _ name admin _ _ check; do
      [[ " $* " == *" $name "* || $admin != ready || ($check != UP* && $check != no_check) ]] || echo "$name"
    done)
    if [[ -z $others ]]; then
      printf '%s\n' "without $server nobody is left in ${server%%/*}: $(grep "^server ${server%%/*}/" <<<"$now" | awk '{ printf "%s%s is %s, %s", sep, $2, $3, $6; sep = "; " }')" >&2
      exit 4
    fi
  done
fi
for server in "$@"; do
  answer=$(ask "set server $server state $state") || exit
  [[ ! $answer =~ [^[:space:]] ]] || fail "HAProxy refuses to set $server to $state: $answer"
done
exec 9<&-

# Out: nothing in flight any more. In: its check sees it. With 0 seconds it is told, and not waited for.
end=$((SECONDS + seconds))
while :; do
  now=$(servers) || exit
  waiting=
  for server in "$@"; do
    read -r _ _ admin sessions queued check <<<"$(grep "^server $server " <<<"$now")"
    case $state in
      ready) [[ $admin == ready && ($check == UP* || $check == no_check) ]] || waiting+=" $server is $admin, $check;" ;;
      *) [[ $admin == "$state" && $sessions == 0 && $queued == 0 ]] || waiting+=" $server is $admin with $sessions requests in flight;" ;;
    esac
  done
  [[ -n $waiting ]] || break
  ((seconds > 0)) || break
  if ((SECONDS >= end)); then
    printf '%s\n' "not $state after $seconds s:${waiting%;}" >&2
    exit 5
  fi
  sleep 0.2
done
printf '%s\n' "$now"
