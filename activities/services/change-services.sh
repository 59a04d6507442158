# ACT SERVICE...: states, stop, start, or restart (each service as INSTANCE, tab, SERVICE: only one that is still that
# instance, or does not run, is restarted). In the order of the arguments. Idempotent. Prints time and states at the end.
act=$1
shift
services=("$@")
case $act in
  states) await_boot ;;
  stop) each stop_if_up "$@" ;;
  start) each start_if_down "$@" ;;
  restart)
    services=()
    for pair in "$@"; do
      fields_of "${pair#*$'\t'}"
      services+=("${pair#*$'\t'}")
      now=$(state_of)
      [[ $now == "running "* && ${now#* } != "${pair%%$'\t'*}" ]] || { restart_service && await_start 90; }
    done
    ;;
  *) fail "unknown act $act" ;;
esac
echo "at $(date +%s%3N)"
each say_state "${services[@]}"
