# A change that may cut the way to the host off is made under a dead man's switch: unless it is confirmed in time, over a connection that was
# opened after it, the host puts the old state back by itself; also after a reboot. Run as `bash -c SCRIPT dead-man COMMAND DIRECTORY ...`.
#   arm DIRECTORY SECONDS UNDO      what UNDO (a bash script) needs comes as a tar archive by stdin; it runs in the unpacked archive
#   act DIRECTORY ARGUMENT...       runs the command that may cut the way off; exit code 8: too late, the old state is back already
#   confirm DIRECTORY               exit code 7: too late, the old state is back; 6: no `act` has come to its end; 0 also when it is asked again
#   fire DIRECTORY                  puts the old state back now, also once more; exit code 9: that failed, DIRECTORY/log says why
#   state DIRECTORY                 none, armed, confirmed, restored, or failed: fired, but the old state could not be put back
#   forget DIRECTORY
# DIRECTORY is there only as a whole: it comes and goes by rename. In it: saved, undo, fire, log, lock; `acted` once the change is whole;
# `confirmed` or `restored` (with the exit code of UNDO) once it is decided. DIRECTORY.confirmed stays after a confirmation, whose answer may have been lost.
set -u
umask 077
export LC_ALL=C
command=$1 directory=$2
unit=guardia-dead-man

disarm() {
  systemctl stop "$unit.timer" 2>/dev/null
  systemctl -q disable "$unit.service" 2>/dev/null
  rm -f "/etc/systemd/system/$unit.service"
  systemctl daemon-reload
}

clear_away() {
  rm -rf "$directory.new" "$directory.old"
  [ -d "$directory" ] || return 0
  mv -T "$directory" "$directory.old" && rm -rf "$directory.old"
}

refuse() { # MESSAGE: nothing was changed yet, and nothing is left
  disarm
  clear_away
  echo "the dead man's switch cannot be armed: $1" >&2
  exit 1
}

prepare() { # UNDO: everything that firing needs, room for its outcome with it; on a disk that is full later it must still work
  local new=$directory.new
  mkdir -p "$new/saved" && tar -x -p -C "$new/saved" &&
    printf '%s\n' "$1" >"$new/undo" && : >"$new/log" && : >"$new/lock" && printf '%-63s\n' '' >"$new/restored.pending" &&
    cat >"$new/fire" <<'FIRE' || return
exec 9>>"$1/lock" || exit 1
flock 9
# Confirmed and gone while this waited, or by now another one.
[ "$1/lock" -ef /proc/self/fd/9 ] || exit 0
[ -e "$1/confirmed" ] && exit 0
[ -e "$1/restored" ] && [ "$(tr -d ' ' <"$1/restored")" = 0 ] && exit 0
[ -e "$1/restored" ] && mv "$1/restored" "$1/restored.pending"
cd "$1/saved" && /bin/bash "$1/undo" >"$1/log" 2>&1 9>&-
printf '%-63s\n' "$?" 1<>"$1/restored.pending"
sync "$1/restored.pending"
mv "$1/restored.pending" "$1/restored"
sync "$1"
# whole
FIRE
  [ "$(cat "$new/undo")" = "$(printf '%s' "$1")" ] && bash -n "$new/undo" && bash -n "$new/fire" && [ "$(tail -n 1 "$new/fire")" = '# whole' ] &&
    sync "$new/undo" "$new/fire" "$new/restored.pending" && sync -f "$new/saved" &&
    mv -T "$new" "$directory" && sync "$(dirname "$directory")"
}

# As a unit of its own that is also enabled: a power cut in the window boots into the old state.
install_unit() {
  local file=/etc/systemd/system/$unit.service
  cat >"$file" <<UNIT || return
[Unit]
Description=guardia: puts back what was not confirmed
Before=ufw.service ssh.service network-pre.target
Wants=network-pre.target
DefaultDependencies=no
After=local-fs.target
[Service]
Type=oneshot
ExecStart=/bin/bash $directory/fire $directory
[Install]
WantedBy=sysinit.target
UNIT
  [ "$(tail -n 1 "$file")" = WantedBy=sysinit.target ] && sync "$file" && systemctl daemon-reload && systemctl -q enable "$unit.service" &&
    sync -f /etc/systemd/system
}

outcome() { # restored, failed, confirmed or armed
  if [ -e "$directory/restored" ]; then
    if [ "$(tr -d ' ' <"$directory/restored")" = 0 ]; then echo restored; else echo failed; fi
  elif [ -e "$directory/confirmed" ]; then echo confirmed
  else echo armed; fi
}

case $command in
arm)
  rm -f "$directory.confirmed"
  clear_away
  prepare "$4" || refuse "what it needs cannot be written below $(dirname "$directory") ($(df -Ph "$(dirname "$directory")" | awk 'NR == 2 { print $4 }') free)"
  install_unit || refuse 'its unit cannot be installed'
  systemctl stop "$unit.timer" 2>/dev/null
  systemctl reset-failed "$unit.service" "$unit.timer" 2>/dev/null
  systemd-run --quiet --collect --unit="$unit" --on-active="$3" --timer-property=AccuracySec=100ms >&2 || refuse 'systemd-run refused its timer'
  ;;
confirm)
  if [ ! -d "$directory" ]; then
    [ -e "$directory.confirmed" ] && exit 0
    exit 7
  fi
  exec 9>>"$directory/lock"
  flock 9
  [ -e "$directory/restored" ] && exit 7
  [ -e "$directory/acted" ] || exit 6
  # From here on the new state stands, also over a power cut.
  { : >"$directory/confirmed" && : >"$directory.confirmed" && sync "$directory" "$(dirname "$directory")"; } || exit 1
  disarm
  clear_away
  ;;
act)
  # Under the lock of the switch: what comes after it was decided would stand for ever.
  shift 2
  exec 9>>"$directory/lock" || exit 8
  flock 9
  [ "$(outcome)" = armed ] || exit 8
  "$@" 9>&- && : >"$directory/acted"
  ;;
fire)
  # A directory without its script comes from an arming that failed: nothing was changed under it.
  [ -e "$directory/fire" ] || exit 0
  if [ -e "$directory/restored" ]; then mv "$directory/restored" "$directory/restored.pending"; fi
  /bin/bash "$directory/fire" "$directory"
  [ "$(outcome)" != failed ] || exit 9
  ;;
state)
  if [ -d "$directory" ]; then outcome; elif [ -e "$directory.confirmed" ]; then echo confirmed; else echo none; fi
  ;;
forget)
  disarm
  clear_away
  rm -f "$directory.confirmed"
  ;;
esac
