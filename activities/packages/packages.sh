# Debian packages. Run as `bash -c SCRIPT packages COMMAND ARGUMENT...`.
#   look NAME...            NAME VERSION of those that are installed, or of the installed package that provides it
#   unavailable SPEC...     those that apt cannot install; nothing where it has no lists yet
#   simulate SPEC...        names of all packages that the installation would add: lines `new NAME` and `changed NAME`; `configured NAME` for a new
#                           one that was removed before, and whose configuration is still there
#   install SPEC...         installs; never removes anything
#   network                 what Docker changes by itself: policies of FORWARD, whether the host forwards: POLICY-4 POLICY-6 0|1
#   tidy PATH...            removes files, and directories that are empty
#   remove KEEP CONFIGURED NETWORK NAME...   purges what is installed of these, but not the data of those that KEEP names, nor the configuration of those
#                           that CONFIGURED names, and takes their rules out of the kernel; NETWORK: as the command printed it before; exit code 3:
#                           something else would go, too
# SPEC is NAME or NAME=VERSION, or several of them with ` | ` between.
set -u
# needrestart only lists: by itself it would restart whatever uses an old library, databases and servers, on every host at once.
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l UCF_FORCE_CONFFOLD=1
# Answers to questions of packages: files that are there stay.
options=(-q -y --no-install-recommends -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-confdef)
command=$1
shift
satisfy() { # OPTION... -- SPEC...: apt chooses among alternatives, and knows what provides what
  local given=() wanted
  while [ "$1" != -- ]; do
    given+=("$1")
    shift
  done
  shift
  mapfile -t wanted < <(printf '%s\n' "$@" | sed -E 's/=([^ ]+)/ (= \1)/g')
  apt-get "${options[@]}" "${given[@]}" --no-remove satisfy -- "${wanted[@]}"
}
# apt-get could wait for the locks of dpkg only, and dpkg itself for none: what says that another one holds a lock is tried again until then. One
# deadline for the whole script, so that the rest of its time is left for the work.
deadline=$((SECONDS + 300))
patiently() { # COMMAND...: exit code 75 where the lock is held to the end; what it prints is standard error
  local said status
  while true; do
    { said=$("$@" 2>&1 >&4 4>&-); } 4>&2
    status=$?
    [ -z "$said" ] || printf '%s\n' "$said" >&2
    if [ "$status" = 0 ] || ! grep -qE 'lock was locked by another process|Could not get lock' <<<"$said"; then break; fi
    status=75
    [ "$SECONDS" -lt "$deadline" ] || break
    sleep 2
  done
  return "$status"
}
# What an interrupted installation left half done: dpkg configures what is unpacked, apt unpacks anew where dpkg was stopped amid it.
complete() {
  patiently dpkg --configure -a || return
  [ -z "$(dpkg --audit)" ] || patiently apt-get "${options[@]}" --no-remove --fix-broken install
}
# What Docker and ufw have put into the kernel stays there when they are purged. All at once, and nobody else's rules are touched.
without_rules() { # iptables|ip6tables POLICY-OF-FORWARD PATTERN
  command -v "$1-save" >/dev/null || return 0
  "$1-save" | grep -vE -- "$3" | sed "s/^:FORWARD [A-Z]* /:FORWARD $2 /" | "$1-restore"
}
leave_network() { # POLICY-4 POLICY-6 0|1 NAME...: of packages that are about to go
  local policies=("$1" "$2") forwards=$3 docker='' patterns=() pattern
  shift 3
  case " $* " in *' docker.io '* | *' docker-ce '*) docker=yes ;; esac
  [ -n "$docker" ] && patterns+=('^:DOCKER|^-A DOCKER| -j DOCKER| (docker0|br-[0-9a-f]{12})( |$)')
  case " $* " in *' ufw '*) patterns+=('^:ufw6?-|^-A ufw6?-| -j ufw6?-') ;; esac
  [ "${#patterns[@]}" = 0 ] && return 0
  [ -n "$docker" ] && systemctl stop docker.socket docker.service 2>/dev/null
  pattern=$(IFS='|'; echo "${patterns[*]}")
  without_rules iptables "${policies[0]}" "$pattern" && without_rules ip6tables "${policies[1]}" "$pattern" || return 1
  [ -n "$docker" ] || return 0
  for link in /sys/class/net/docker0 /sys/class/net/br-????????????; do
    [ ! -e "$link" ] || ip link delete "${link##*/}" || return 1
  done
  echo "$forwards" >/proc/sys/net/ipv4/ip_forward
}

case $command in
look)
  dpkg-query -W -f '${db:Status-Abbrev}\t${Package}\t${Version}\t${Provides}\n' | awk -F '\t' -v names="$*" '
    $1 !~ /^.i/ { next }
    { version[$2] = $3; n = split($4, provided, ", *"); for (i = 1; i <= n; i++) { sub(/[ :].*/, "", provided[i]); by[provided[i]] = $3 } }
    END { n = split(names, name, " "); for (i = 1; i <= n; i++) if (name[i] in version) print name[i], version[name[i]]; else if (name[i] in by) print name[i], by[name[i]] }'
  ;;
unavailable)
  # shellcheck disable=SC2016 # apt's own place
  apt-get indextargets --format '$(FILENAME)' 'Created-By: Packages' | xargs -r ls 2>/dev/null | grep -q . || exit 0
  satisfy -s -- "$@" >/dev/null 2>&1 && exit 0
  for spec in "$@"; do
    said=$(satisfy -s -- "$spec" 2>&1) && continue
    case $said in *--fix-broken*) exit 0 ;; *) echo "$spec" ;; esac
  done
  ;;
simulate)
  complete || exit 1
  patiently apt-get "${options[@]}" update || exit 1
  plan=$(satisfy -s -- "$@") || { printf '%s\n' "$plan" >&2; exit 1; }
  sed -n 's/^Inst \([^ ]*\) \[.*/changed \1/p; s/^Inst \([^ ]*\) (.*/new \1/p' <<<"$plan"
  # shellcheck disable=SC2016 # dpkg's own names
  sed -n 's/^Inst \([^ ]*\) (.*/\1/p' <<<"$plan" | xargs -r dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' 2>/dev/null | sed -n 's/^.c. */configured /p'
  ;;
install)
  complete || exit 1
  patiently satisfy -- "$@" || exit 1
  ;;
network)
  forward() { # COMMAND
    policy=$("$1" -S FORWARD 2>/dev/null | sed -n 's/^-P FORWARD //p')
    echo "${policy:-ACCEPT}"
  }
  echo "$(forward iptables) $(forward ip6tables) $(cat /proc/sys/net/ipv4/ip_forward)"
  ;;
tidy)
  for path in "$@"; do
    if [ -d "$path" ]; then rmdir --ignore-fail-on-non-empty -- "$path"; else rm -f -- "$path"; fi
  done
  true
  ;;
remove)
  keep=" $1 " configured=" $2 " network=$3
  shift 3
  letters=/etc/letsencrypt
  # An undo before this one came no further.
  if [ -e "$letters.guardia-kept" ]; then
    [ ! -d "$letters" ] || rmdir --ignore-fail-on-non-empty -- "$letters"
    mv -T "$letters.guardia-kept" "$letters" || exit 1
  fi
  # What cannot be configured goes all the same; while somebody else is at work, nothing is taken away yet.
  patiently dpkg --configure -a
  [ "$?" != 75 ] || exit 1
  there=()
  for name in "$@"; do
    case $(dpkg-query -W -f '${db:Status-Abbrev}' -- "$name" 2>/dev/null) in
    '' | un*) ;;
    ?c*) [[ $configured == *" $name "* ]] || there+=("$name") ;;
    *) there+=("$name") ;;
    esac
  done
  if [ "${#there[@]}" = 0 ]; then complete; exit; fi
  plan=$(apt-get "${options[@]}" -s purge -- "${there[@]}") || { printf '%s\n' "$plan" >&2; exit 1; }
  others=$(sed -n 's/^\(Purg\|Remv\) \([^ ]*\).*/\2/p' <<<"$plan" | grep -vxF -f <(printf '%s\n' "${there[@]}" "${there[@]/%/:$(dpkg --print-architecture)}"))
  [ -z "$others" ] || { echo "these packages need them: $others" | tr '\n' ' ' >&2; exit 3; }
  # Changes nothing, but takes every lock that the removal will take: Docker is not stopped just to wait then.
  patiently apt-get "${options[@]}" --download-only remove -- "${there[@]}" || exit 1
  # shellcheck disable=SC2086 # three words
  [ -z "$network" ] || leave_network $network "${there[@]}" >&2 || exit 1
  # Also what dpkg was stopped amid unpacking.
  patiently apt-get "${options[@]}" -o Dpkg::Options::=--force-remove-reinstreq remove -- "${there[@]}" || exit 1
  # Docker's purge takes the data by a script that its removal has just put there; certbot's takes every certificate, also those from elsewhere; others
  # that take data stay unpurged.
  [[ $keep == *" docker.io "* ]] && rm -f /var/lib/docker/nuke-graph-directory.sh
  if [[ $keep == *" certbot "* && -d $letters ]]; then mv -T "$letters" "$letters.guardia-kept" || exit 1; fi
  marked=()
  for name in "${there[@]}"; do
    [[ $configured == *" $name "* ]] && continue
    case $name in docker.io | certbot) ;; *) [[ $keep == *" $name "* ]] && continue ;; esac
    marked+=("$name")
  done
  [ "${#marked[@]}" = 0 ] || patiently dpkg --purge -- "${marked[@]}"
  purged=$?
  if [ -e "$letters.guardia-kept" ]; then mv -T "$letters.guardia-kept" "$letters" || exit 1; fi
  [ "$purged" = 0 ] && complete || exit 1
  # What failed and is gone is no failure of the host any more.
  systemctl list-units --all --plain --no-legend --state=not-found 2>/dev/null | awk '{ print $1 }' | xargs -r systemctl reset-failed -- 2>/dev/null
  true
  ;;
esac
