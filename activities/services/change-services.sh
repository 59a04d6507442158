# ACT SERVICE...: states, stop, start, restart or replace (of these two each service as INSTANCE, tab, SERVICE). Restart leaves one alone that runs
# as another instance than that; replace one that runs as that instance. What does not run is started by both. In the order of the arguments. Idempotent. Prints time and states at the end.
act=$1
shift
services=("$@")
case $act in
  states) await_boot ;;
  stop) each stop_if_up "$@" ;;
  start) each start_if_down "$@" ;;
  restart | replace)
    services=()
    for pair in "$@"; do
      fields_of "${pair#*$'\t'}"
      services+=("${pair#*$'\t'}")
      now=$(state_of)
      same=no
      [[ ${now#* } != "${pair%%$'\t'*}" ]] || same=yes
      case $act:$now in
        restart:running*) [[ $same == no ]] || { restart_service && await_start 90; } ;;
        replace:running*) [[ $same == yes ]] || { restart_service && await_start 90; } ;;
        *) start_service && await_start 90 ;;
      esac
    done
    ;;
  *) fail "unknown act $act" ;;
esac
echo "at $(date +%s%3N)"
each say_state "${services[@]}"
