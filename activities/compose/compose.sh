# A docker compose project. Run as `bash -c SCRIPT compose COMMAND PROJECT DIRECTORY FILE`.
#   look        lines `now SECONDS`, by the clock of this host; `defined SERVICE` of its file; for each container `present SERVICE` and, if
#               it runs, `running SERVICE START`, where START is another one after each start, and `image IMAGE`; `volume NAME`, `network NAME`
#   up          starts it, and again what has changed; further arguments go to `docker compose up`
#   take-back   SECONDS, then stop=SERVICE, remove=SERVICE, network=NAME, volume=NAME: takes these away, a network only if no container
#               is left in it, a volume only if it came into being at SECONDS or later; a line `kept NAME` for one that stays
# Without docker there is nothing. Docker that is there and does not answer says nothing of what there is: code 75, except for `up`.
set -u -o pipefail
export LC_ALL=C
command=$1 project=$2 directory=$3 file=$4
shift 4
label=label=com.docker.compose.project=$project
compose() { docker compose -p "$project" --project-directory "$directory" -f "$directory/$file" "$@"; }
containers() { docker ps --all --quiet --filter "$label" "$@"; }
await_docker() {
  command -v docker >/dev/null || exit 0
  timeout 20 docker info >/dev/null 2>&1 || exit 75
}
came_since() { # VOLUME SECONDS; where it cannot be told, it did not. Docker's CreatedAt is no proof: it moves on when files are made.
  local place born
  place=$(docker volume inspect --format '{{.Mountpoint}}' "$1") && [ -n "$place" ] || return 1
  born=$(stat -c %W "$(dirname "$place")" 2>/dev/null) && [ "$born" -gt 0 ] && [ "$born" -ge "$2" ]
}
in_use() { [ "$(docker network inspect --format '{{len .Containers}}' "$1")" != 0 ]; } # NETWORK
case $command in
look)
  await_docker
  echo "now $(date +%s)"
  [ -e "$directory/$file" ] && compose config --services 2>/dev/null | sed 's/^/defined /'
  containers | xargs -r docker inspect --format '{{with index .Config.Labels "com.docker.compose.service"}}present {{.}}{{end}}
{{if eq .State.Status "running"}}running {{index .Config.Labels "com.docker.compose.service"}} {{.Id}}/{{.State.StartedAt}}
image {{.Config.Image}}{{end}}' || exit 75
  docker volume ls --filter "$label" --format 'volume {{.Name}}' || exit 75
  docker network ls --filter "$label" --format 'network {{.Name}}' || exit 75
  ;;
up) compose up --detach --quiet-pull "$@" >&2 ;;
take-back)
  await_docker
  since=$1
  shift
  for what in "$@"; do
    name=${what#*=}
    service="label=com.docker.compose.service=$name"
    case $what in
      stop=*) containers --filter "$service" | xargs -r docker stop >/dev/null ;;
      remove=*) containers --filter "$service" | xargs -r docker rm --force >/dev/null ;;
      network=*) if in_use "$name"; then echo "kept $name"; else docker network rm "$name" >/dev/null; fi ;;
      volume=*) if came_since "$name" "$since"; then docker volume rm "$name" >/dev/null; else echo "kept $name"; fi ;;
    esac || exit 1
  done
  ;;
esac
