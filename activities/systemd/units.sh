# Looks at systemd units and changes one. Run as `bash -c SCRIPT units COMMAND ARGUMENT...`.
#   look UNIT...                      one line each: UNIT LOAD-STATE ENABLED ACTIVE
#   set UNIT ENABLED ACTIVE           ENABLED enabled|disabled|-, ACTIVE active|anew|inactive|-; anew: started now, also where it runs
#   apply UNIT restart|reload         only a unit that runs or has failed; prints the line of look
#   fail UNIT                         has a unit that runs fail with its files, as it did before; stops one that does not
set -u
export LC_ALL=C SYSTEMD_PAGER='' SYSTEMD_COLORS=0

look() {
  local unit load enabled active
  for unit in "$@"; do
    load=$(systemctl show -p LoadState --value -- "$unit")
    active=$(systemctl show -p ActiveState --value -- "$unit")
    enabled=$(systemctl is-enabled -- "$unit" 2>/dev/null)
    # systemd remembers how a unit ended that is gone by now.
    [ "$load" = not-found ] && enabled='' active=''
    printf '%s %s %s %s\n' "$unit" "${load:-not-found}" "${enabled:--}" "${active:-inactive}"
  done
}

why() { # what the unit's last lines say
  systemctl status --no-pager --lines=5 -- "$1" 2>&1 | tail -n 8 >&2
}

# A unit that has just been started may still die at once: it counts as active when it is so twice, half a second apart.
await_active() {
  local tries=0
  while [ "$tries" -lt 120 ]; do
    case $(systemctl show -p ActiveState --value -- "$1") in
    active)
      sleep 0.5
      [ "$(systemctl show -p ActiveState --value -- "$1")" = active ] && return 0
      ;;
    failed) break ;;
    esac
    tries=$((tries + 1))
    sleep 0.25
  done
  why "$1"
  return 1
}

reload_if_needed() {
  [ "$(systemctl show -p NeedDaemonReload --value -- "$1")" = no ] || systemctl daemon-reload
}

command=$1
shift
case $command in
look) look "$@" ;;
set)
  reload_if_needed "$1"
  case $2 in
  enabled) systemctl -q enable -- "$1" || exit 1 ;;
  disabled) systemctl -q disable -- "$1" || exit 1 ;;
  esac
  case $3 in
  active | anew)
    how=start
    [ "$3" = active ] || how=restart
    systemctl "$how" -- "$1" || { why "$1"; exit 1; }
    await_active "$1" || exit 1
    ;;
  inactive)
    systemctl stop -- "$1" || exit 1
    systemctl reset-failed -- "$1" 2>/dev/null
    ;;
  esac
  look "$1"
  ;;
apply)
  reload_if_needed "$1"
  how=$2
  case $(systemctl show -p ActiveState --value -- "$1") in
  active | reloading) ;;
  # What failed with its old files may run with the new ones; there is nothing yet that could reload.
  activating | failed) how=restart ;;
  *) how= ;;
  esac
  if [ -n "$how" ]; then
    systemctl "$how" -- "$1" || { why "$1"; exit 1; }
    await_active "$1" || exit 1
  fi
  look "$1"
  ;;
fail)
  reload_if_needed "$1"
  systemctl restart -- "$1" 2>/dev/null
  # It may need some seconds to see what is wrong.
  for _ in {1..40}; do
    [ "$(systemctl show -p ActiveState --value -- "$1")" != failed ] || break
    sleep 0.25
  done
  [ "$(systemctl show -p ActiveState --value -- "$1")" = failed ] || systemctl stop -- "$1" || exit 1
  look "$1"
  ;;
esac
