#!/bin/sh
# set-up-schema.sh : creates the two databases of Temporal and brings their schemas to the version of the tool. Idempotent: run it before every
# start of a newer server.
#
# Takes POSTGRES_HOST, POSTGRES_PORT, POSTGRES_USER, POSTGRES_PASSWORD; TEMPORAL_SQL_TOOL is the tool (default temporal-sql-tool).
# Where the user may not create databases, create `temporal` and `temporal_visibility` for it beforehand.
set -eu
export SQL_PLUGIN=postgres12_pgx SQL_HOST="$POSTGRES_HOST" SQL_PORT="${POSTGRES_PORT:-5432}"
export SQL_USER="${POSTGRES_USER:-temporal}" SQL_PASSWORD="$POSTGRES_PASSWORD"
tool=${TEMPORAL_SQL_TOOL:-temporal-sql-tool}

for part in temporal:temporal temporal_visibility:visibility; do
  database=${part%%:*}
  # The database server may not take connections yet, and the database may not exist yet.
  tries=0
  until "$tool" --db "$database" setup-schema --version 0.0 ||
    { "$tool" --db "$database" create-database && "$tool" --db "$database" setup-schema --version 0.0; }; do
    tries=$((tries + 1))
    [ "$tries" -lt 30 ] || { echo "set-up-schema: no way into database $database at $SQL_HOST:$SQL_PORT as $SQL_USER" >&2; exit 1; }
    sleep 2
  done
  "$tool" --db "$database" update-schema --schema-name "postgresql/v12/${part##*:}"
done
