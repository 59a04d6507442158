# Services of a system on this host, whatever runs them. A service is one argument, its fields separated by the byte 31:
#   systemd NAME UNIT | compose NAME PROJECT SERVICE DIRECTORY FILE [FILE ...] | container NAME CONTAINER
# Each state is a line "service NAME STATE INSTANCE": running, stopped, failed, starting or absent; INSTANCE changes with every start.
# A line "unit NAME UNIT-FILE-STATE" says whether systemd starts it with the host.
set -u -o pipefail
export LC_ALL=C

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}
fields_of() { IFS=$'\x1f' read -r -a field <<<"$1"; }

compose() { # docker compose v2, or the old docker-compose; by the fields of the service
  local files=() file program=(docker compose)
  docker compose version >/dev/null 2>&1 || program=(docker-compose)
  for file in "${field[@]:5}"; do files+=(--file "$file"); done
  (cd "${field[4]}" && exec "${program[@]}" --project-name "${field[2]}" "${files[@]}" "$@")
}
containers_of() { # its containers, newest first
  docker ps --all --quiet --filter "label=com.docker.compose.project=${field[2]}" \
    --filter "label=com.docker.compose.service=${field[3]}" --filter label=com.docker.compose.oneoff=False
}
container_state() { # CONTAINER
  local line
  line=$(docker container inspect --format '{{.State.Status}} {{.Id}}/{{.State.StartedAt}}' "$1" 2>/dev/null) || {
    echo 'absent -'
    return
  }
  case ${line%% *} in
    running) echo "running ${line#* }" ;;
    restarting) echo "failed ${line#* }" ;;
    *) echo "stopped ${line#* }" ;;
  esac
}
state_of() { # of the service in field
  local key value load=not-found active=inactive instance=- container
  case ${field[0]} in
    systemd)
      while IFS='=' read -r key value; do
        case $key in
          LoadState) load=$value ;;
          ActiveState) active=$value ;;
          InvocationID) instance=${value:--} ;;
        esac
      done < <(systemctl show --property=LoadState,ActiveState,InvocationID -- "${field[2]}")
      case $load:$active in
        not-found:*) echo 'absent -' ;;
        *:active | *:reloading) echo "running $instance" ;;
        *:activating | *:deactivating) echo "starting $instance" ;;
        *:failed) echo "failed $instance" ;;
        *) echo "stopped $instance" ;;
      esac
      ;;
    compose)
      container=$(containers_of 2>/dev/null | head -n 1)
      if [[ -n $container ]]; then container_state "$container"; else echo 'absent -'; fi
      ;;
    container) container_state "${field[2]}" ;;
    *) fail "a service of the kind ${field[0]} is not known here" ;;
  esac
}
stop_service() {
  case ${field[0]} in
    systemd) systemctl stop -- "${field[2]}" ;;
    compose) compose stop "${field[3]}" >&2 ;;
    container) docker stop "${field[2]}" >/dev/null ;;
  esac || fail "${field[1]} could not be stopped"
}
start_service() {
  case ${field[0]} in
    # A unit that failed too often just now would be refused for that alone
    systemd) systemctl reset-failed -- "${field[2]}" 2>/dev/null; systemctl start -- "${field[2]}" ;;
    compose) compose up --detach --no-deps "${field[3]}" >&2 ;;
    container) docker start "${field[2]}" >/dev/null ;;
  esac || fail "${field[1]} could not be started"
}
restart_service() {
  case ${field[0]} in
    systemd) systemctl reset-failed -- "${field[2]}" 2>/dev/null; systemctl restart -- "${field[2]}" ;;
    compose) compose restart "${field[3]}" >&2 ;;
    container) docker restart "${field[2]}" >/dev/null ;;
  esac || fail "${field[1]} could not be restarted"
}
await_start() { # SECONDS: a unit that is still starting gets this long
  local end=$((SECONDS + $1)) now
  while now=$(state_of) && [[ $now == starting* ]] && ((SECONDS < end)); do sleep 0.2; done
  # systemd takes a simple unit for started before its program has run: what ends at once is seen a moment later.
  [[ $now == running* ]] && sleep 0.7 && now=$(state_of)
  [[ $now == running* ]] || fail "${field[1]} is ${now%% *} after its start"
}
# On a host that is booting nothing is as it will be.
await_boot() { [[ ! -d /run/systemd/system ]] || timeout 60 systemctl is-system-running --wait >/dev/null 2>&1 || true; }
say_state() {
  echo "service ${field[1]} $(state_of)"
  [[ ${field[0]} != systemd ]] || echo "unit ${field[1]} $(systemctl show --value --property=UnitFileState -- "${field[2]}")"
}

each() { # ACT SERVICE...
  local act=$1 service
  shift
  for service in "$@"; do
    fields_of "$service"
    "$act"
  done
}
stop_if_up() { case $(state_of) in stopped* | absent*) ;; *) stop_service ;; esac; }
start_if_down() {
  case $(state_of) in
    running*) ;;
    *) start_service && await_start 90 ;;
  esac
}
