# A change that may cut the way to the host off is made under a dead man's switch: unless it is confirmed in time, over a connection that was
# opened after it, the host puts the old state back by itself; also after a reboot. Run as `bash -c SCRIPT dead-man COMMAND DIRECTORY ...`.
#   arm DIRECTORY SECONDS UNDO      what UNDO (a bash script) needs comes as a tar archive by stdin; it runs in the unpacked archive
#   act DIRECTORY ARGUMENT...       runs the command that may cut the way off; exit code 8: too late, the old state is back already
#   confirm DIRECTORY               exit code 7: too late, the old state is back
#   fire DIRECTORY                  puts the old state back now, also once more
#   state DIRECTORY                 none, armed or restored
#   forget DIRECTORY
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

case $command in
arm)
  rm -rf "$directory"
  mkdir -p "$directory/saved" || exit 1
  tar -x -p -C "$directory/saved" || exit 1
  printf '%s\n' "$4" >"$directory/undo"
  cat >"$directory/fire" <<'FIRE'
exec 9>"$1/lock"
flock 9
[ -e "$1/restored" ] && exit 0
cd "$1/saved" && /bin/bash "$1/undo" >"$1/log" 2>&1
touch "$1/restored"
sync "$1"
FIRE
  # As a unit of its own that is also enabled: a power cut in the window boots into the old state.
  cat >"/etc/systemd/system/$unit.service" <<UNIT
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
  sync "$directory" "/etc/systemd/system/$unit.service"
  systemctl daemon-reload && systemctl -q enable "$unit.service" || exit 1
  systemctl stop "$unit.timer" 2>/dev/null
  systemctl reset-failed "$unit.service" "$unit.timer" 2>/dev/null
  systemd-run --quiet --collect --unit="$unit" --on-active="$3" --timer-property=AccuracySec=100ms >&2
  ;;
confirm)
  [ -d "$directory" ] || exit 7
  exec 9>"$directory/lock"
  flock 9
  [ -e "$directory/restored" ] && exit 7
  disarm
  rm -rf "$directory"
  ;;
act)
  # Under the lock of the switch: what comes after it has fired would stand for ever.
  shift 2
  exec 9>"$directory/lock" || exit 8
  flock 9
  [ -e "$directory/restored" ] && exit 8
  "$@" 9>&-
  ;;
fire)
  [ -d "$directory" ] || exit 0
  rm -f "$directory/restored"
  /bin/bash "$directory/fire" "$directory"
  ;;
state)
  if [ -e "$directory/restored" ]; then echo restored; elif [ -d "$directory" ]; then echo armed; else echo none; fi
  ;;
forget)
  disarm
  rm -rf "$directory"
  ;;
esac
