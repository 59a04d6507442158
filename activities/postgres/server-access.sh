# How the scripts log in to the server: access=peer (as an operating-system user), password (TCP), compose or
# container (inside the container of a compose service, or of this name).
# Always with the programs of the server's own major version.
need_arguments access database version port
major=${argument[version]}
# A name of its own where no run gives one: at its end every session of this name is ended in a container
export PGAPPNAME="guardia ${argument[run]:-$$-$EPOCHREALTIME}" PGCONNECT_TIMEOUT=20
unset PGHOST PGPORT PGUSER PGDATABASE PGSERVICE PGPASSWORD PGPASSFILE PGOPTIONS PGCLIENTENCODING

# A database name may hold = and quotes, so it travels as a connection string.
connection_string() {
  local name=${argument[database]//\\/\\\\}
  printf "dbname='%s'" "${name//\'/\\\'}"
}
for directory in "/usr/lib/postgresql/$major/bin" "/usr/pgsql-$major/bin"; do
  [[ -x $directory/pg_dump ]] && programs=$directory && break
done
# What a program of the server is started through; not inside containers, whose programs we do not choose.
through=()
case ${argument[access]} in
  peer)
    need_arguments user
    need_tools setpriv
    [[ -n ${programs:-} ]] || fail tool-missing "pg_dump $major is not in /usr/lib/postgresql/$major/bin: install postgresql-client-$major"
    id -u "${argument[user]}" >/dev/null 2>&1 || fail database-unreachable "there is no operating-system user ${argument[user]}"
    export PGPORT=${argument[port]}
    pg() { # not runuser: it would stand between us and the program's status and signals
      local program=$1
      shift
      if (($(id -u) == $(id -u "${argument[user]}"))); then exec "${through[@]}" "$programs/$program" "$@"; fi
      HOME=/ exec setpriv --reuid "${argument[user]}" --regid "$(id -g "${argument[user]}")" --init-groups "${through[@]}" "$programs/$program" "$@"
    }
    ;;
  password)
    need_arguments user address
    [[ -n ${programs:-} ]] || fail tool-missing "pg_dump $major is not in /usr/lib/postgresql/$major/bin: install postgresql-client-$major"
    export PGHOST=${argument[address]} PGPORT=${argument[port]} PGUSER=${argument[user]} PGPASSFILE=$scratch/passfile
    password=${secret[databasePassword]:-}
    password=${password//\\/\\\\}
    printf '*:*:*:*:%s\n' "${password//:/\\:}" >"$PGPASSFILE"
    unset password
    pg() {
      local program=$1
      shift
      exec "${through[@]}" "$programs/$program" --no-password "$@"
    }
    ;;
  compose | container)
    need_arguments user
    need_tools docker
    if [[ ${argument[access]} == compose ]]; then
      need_arguments project service
      container=$(docker ps --quiet --filter "label=com.docker.compose.project=${argument[project]}" \
        --filter "label=com.docker.compose.service=${argument[service]}" 2>"$scratch/docker.err") ||
        fail database-unreachable "docker: $(tail -n 1 "$scratch/docker.err")"
      [[ -n $container && $container != *$'\n'* ]] ||
        fail database-unreachable "service ${argument[service]} of compose project ${argument[project]} has $(wc -w <<<"$container") running containers, not one"
    else
      need_arguments container
      container=${argument[container]}
      running=$(docker container inspect --format '{{.State.Running}}' "$container" 2>"$scratch/docker.err") ||
        fail database-unreachable "docker: $(tail -n 1 "$scratch/docker.err")"
      [[ $running == true ]] || fail database-unreachable "container $container is not running"
    fi
    pg() {
      local program=$1
      shift
      exec docker exec --interactive --env "PGAPPNAME=$PGAPPNAME" --env "PGUSER=${argument[user]}" "$container" "$program" "$@"
    }
    # A program in a container outlives the docker client that started it
    before_end() {
      (pg psql -XAtq --dbname "$(connection_string)" --command \
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and application_name = current_setting('application_name')") \
        </dev/null >/dev/null 2>&1
    }
    ;;
  *) fail bad-arguments "access=${argument[access]} is not peer, password, compose or container" ;;
esac

# A server that has just been started, alone or with its host, takes its time. Returns when it answers, when it refuses for
# another reason (whoever asks next tells it), or after so many seconds.
await_server() { # SECONDS [also-when-silent]
  local deadline=$((SECONDS + $1))
  until (pg psql -XAtq --dbname "$(connection_string)" --command 'select 1') >/dev/null 2>"$scratch/await.err"; do
    case ${2:-}:$(<"$scratch/await.err") in
      *'starting up'* | *'not yet accepting connections'* | *'shutting down'*) ;;
      also-when-silent:*'Connection refused'* | also-when-silent:*'No such file or directory'*) ;;
      *) return ;;
    esac
    ((SECONDS < deadline)) || return
    pause 1
  done
}

# psql and pg_dump say the same things in the same words; this sorts them.
fail_for_database() { # DEFAULT_CODE WHAT ERROR_FILE
  local text code=$1
  # From the first error on: warnings may come before it
  text=$(sed -n '/error:\|ERROR:\|FATAL:/,$p' "$3" | head -n 5 | tr -s '\n\t ' ' ')
  [[ -n $text ]] || text=$(tail -n 3 "$3" | tr -s '\n\t ' ' ')
  case $text in
    *'server version mismatch'*) code=version-mismatch ;;
    *'lock timeout'* | *'statement timeout'* | *'too many clients'* | *'remaining connection slots'* | *'starting up'* | *'not yet accepting connections'* | *'shutting down'*) code=database-busy ;;
    *'connection to server'*'failed'* | *'could not connect'*) code=database-unreachable ;;
  esac
  fail "$code" "$2: $text"
}
