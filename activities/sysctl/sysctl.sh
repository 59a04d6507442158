# Kernel settings. Run as `bash -c SCRIPT sysctl COMMAND ARGUMENT...`.
#   read FILE...         KEY=VALUE of each setting in the files, as it is now
#   apply FILE...        puts the files in force
#   set KEY=VALUE...     puts values in force
set -u
export LC_ALL=C
command=$1
shift
case $command in
read)
  sed -nE 's/^[[:space:]]*-?([a-z0-9_./-]+)[[:space:]]*=.*/\1/p' -- "$@" | sort -u | while read -r key; do
    value=$(sysctl -n -- "$key" 2>/dev/null) && printf '%s=%s\n' "$key" "$value"
  done
  ;;
apply) for file in "$@"; do sysctl -q -p "$file" || exit 1; done ;;
set) sysctl -q -w -- "$@" ;;
esac
