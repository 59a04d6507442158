# A docker compose project. Run as `bash -c SCRIPT compose COMMAND PROJECT DIRECTORY FILE`.
#   look        lines `defined SERVICE` and `running SERVICE`, `volume NAME`
#   up          starts it, and again what has changed
#   down        stops it and removes its containers and networks; further arguments: volumes that go, too
set -u
export LC_ALL=C
command=$1 project=$2 directory=$3 file=$4
shift 4
compose() { docker compose -p "$project" --project-directory "$directory" -f "$directory/$file" "$@"; }
case $command in
look)
  docker info >/dev/null 2>&1 || exit 0
  [ -e "$directory/$file" ] && compose config --services 2>/dev/null | sed 's/^/defined /'
  docker ps --filter "label=com.docker.compose.project=$project" --filter status=running --format '{{.Label "com.docker.compose.service"}}' | sed 's/^/running /'
  docker volume ls --filter "label=com.docker.compose.project=$project" --format '{{.Name}}' | sed 's/^/volume /'
  true
  ;;
up) compose up --detach --remove-orphans --quiet-pull >&2 ;;
down)
  docker info >/dev/null 2>&1 || exit 0
  docker ps --all --quiet --filter "label=com.docker.compose.project=$project" | xargs -r docker rm --force >/dev/null || exit 1
  docker network ls --quiet --filter "label=com.docker.compose.project=$project" | xargs -r docker network rm >/dev/null || exit 1
  for volume in "$@"; do docker volume rm "$volume" >/dev/null || exit 1; done
  ;;
esac
