# What a host is like, in one go and without changing anything: for each QUERY lines "INDEX NAME=VALUE", in any order.
#   bash -c SCRIPT health QUERY ...
# QUERY: a kind and its arguments, separated by the unit separator (0x1f). All of them are asked side by side.
# `error=` says why a question could not be asked at all. Needs bash 5, coreutils, procps; what a kind asks is named in its error.
set -u
export LC_ALL=C PATH="${PATH:-}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What was stopped for want of an answer has said nothing.
first_line() { head -n 1 <<<"${1:-it did not answer in time}" | cut -c 1-200; }

need() {
  command -v "$1" >/dev/null && return
  printf 'error=%s is not installed there\n' "$1"
  return 1
}

# What only a machine of its own can run is not judged in one.
in_container() { systemd-detect-virt --container --quiet && echo container=yes; }

containers() { # ID ...
  local said
  said=$(timeout 15 docker container inspect --format \
    'container={{.Name}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}} {{.RestartCount}}' "$@" 2>&1) ||
    said="error=$(first_line "$said")"
  printf '%s\n' "$said"
}

# One connection attempt: open, refused, silent, unreachable or error, and what bash said.
knock() { # ADDRESS PORT SECONDS
  local said status
  # shellcheck disable=SC2016 # its own arguments
  said=$(timeout "$3" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>&1)
  status=$?
  case $status:$said in
    0:*) printf 'port=%s open\n' "$2" ;;
    124:* | *'Connection timed out'*) printf 'port=%s silent\n' "$2" ;;
    *'Connection refused'*) printf 'port=%s refused\n' "$2" ;;
    *'No route to host'* | *'Network is unreachable'* | *'Permission denied'*) printf 'port=%s unreachable\n' "$2" ;;
    *) printf 'port=%s error %s\n' "$2" "$(first_line "${said##*: }")" ;;
  esac
}

# The address that this machine has on its way to another one; nothing where that cannot be told.
own_address() { # ADDRESS
  local said
  said=$(getent ahostsv4 "$1" | awk 'NR == 1 { print $1 }')
  said=$(ip -4 -o route get "${said:-$1}" 2>/dev/null) && sed -n 's/.* src \([0-9.]*\).*/from=\1/p' <<<"$said"
}

processor_time() { # idle and total jiffies since boot
  local user nice system idle iowait irq softirq steal
  read -r _ user nice system idle iowait irq softirq steal _ </proc/stat
  printf '%s %s\n' "$((idle + iowait))" "$((user + nice + system + idle + iowait + irq + softirq + steal))"
}

ask() { # KIND ARGUMENT ...
  local said id ids=()
  case $1 in
    systemd)
      need systemctl || return
      timeout 10 systemctl show --property=LoadState,ActiveState,SubState,UnitFileState,NRestarts -- "$2" ||
        echo 'error=systemd does not answer'
      in_container
      ;;
    compose)
      need docker || return
      said=$(timeout 15 docker ps --all --quiet --no-trunc --filter "label=com.docker.compose.project=$2" \
        --filter "label=com.docker.compose.service=$3" --filter label=com.docker.compose.oneoff=False 2>&1) ||
        { printf 'error=%s\n' "$(first_line "$said")"; return; }
      while read -r id; do [[ -n $id ]] && ids+=("$id"); done <<<"$said"
      ((${#ids[@]} == 0)) || containers "${ids[@]}"
      ;;
    container)
      need docker || return
      said=$(timeout 15 docker ps --all --quiet --no-trunc --filter "name=^/?$2\$" 2>&1) ||
        { printf 'error=%s\n' "$(first_line "$said")"; return; }
      [[ -z $said ]] || containers "$2"
      ;;
    disk | inodes)
      said=$(timeout 10 df --output=pcent,ipcent,avail,target -- "$2" 2>&1) ||
        { printf 'error=%s\n' "$(first_line "$said")"; return; }
      tail -n 1 <<<"$said" | { read -r space inodes free mount; printf 'space=%s\ninodes=%s\nfreeKiB=%s\nmount=%s\n' "${space%\%}" "${inodes%\%}" "$free" "$mount"; }
      ;;
    memory) awk '$1 == "MemTotal:" { print "totalKiB=" $2 } $1 == "MemAvailable:" { print "availableKiB=" $2 }' /proc/meminfo ;;
    cpu)
      local idle total idle_after total_after
      read -r idle total < <(processor_time)
      sleep "$2"
      read -r idle_after total_after < <(processor_time)
      awk -v idle=$((idle_after - idle)) -v total=$((total_after - total)) \
        'BEGIN { printf "percent=%.1f\n", (total > 0 ? 100 * (1 - idle / total) : 0) }'
      ;;
    load) printf 'load=%s\nprocessors=%s\n' "$(cut -d ' ' -f 2 /proc/loadavg)" "$(nproc)" ;;
    file)
      if [[ ! -e $2 ]]; then
        echo exists=no
        return
      fi
      # Of what a link leads to: the mode of a link says nothing.
      stat --dereference --printf 'exists=yes\nmode=%a\nowner=%U\ngroup=%G\nmodified=%Y\n' -- "$2"
      printf 'now=%s\n' "$(date +%s)"
      ;;
    clock)
      printf 'time=%s\n' "$(date +%s.%N)"
      command -v timedatectl >/dev/null && printf 'synchronised=%s\n' "$(timeout 10 timedatectl show --property=NTPSynchronized --value 2>/dev/null)"
      ;;
    failed-units)
      need systemctl || return
      said=$(timeout 10 systemctl list-units --state=failed --plain --no-legend --full 2>&1) ||
        { printf 'error=%s\n' "$(first_line "$said")"; return; }
      awk 'NF { print "unit=" $1 }' <<<"$said"
      in_container
      ;;
    firewall)
      if ! command -v ufw >/dev/null; then
        echo 'status=not installed'
        return
      fi
      said=$(timeout 15 ufw status verbose 2>&1) || { printf 'error=%s\n' "$(first_line "$said")"; return; }
      sed -n 's/^Status: /status=/p; s/^Default: \([a-z]*\) (incoming).*/incoming=\1/p' <<<"$said"
      ;;
    port) # ADDRESS SECONDS PORT ...
      local address=$2 seconds=$3 port
      shift 3
      own_address "$address"
      for port in "$@"; do knock "$address" "$port" "$seconds" & done
      wait
      ;;
    *) printf 'error=unknown question %s\n' "$1" ;;
  esac
}

index=0
for query in "$@"; do
  {
    IFS=$'\x1f' read -r -a words <<<"$query"
    began=${EPOCHREALTIME/./}
    said=$(ask "${words[@]}" 2>/dev/null </dev/null)
    said+=$'\n'"microseconds=$((${EPOCHREALTIME/./} - began))"
    text=
    while IFS= read -r line; do [[ -n $line ]] && text+="$index $line"$'\n'; done <<<"$said"
    printf '%s' "$text" # in one write, so that answers do not mix
  } &
  index=$((index + 1))
done
wait
echo "end"
