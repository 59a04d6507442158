# A PostgreSQL cluster of Debian's. Run as `bash -c SCRIPT cluster COMMAND MAJOR PORT ...`.
#   look MAJOR PORT FILE ROLE DATABASE          one JSON object; the password of ROLE, if there is one, by stdin
#   sql MAJOR PORT DATABASE                     runs SQL from stdin as the superuser and prints what it answers
set -u
export LC_ALL=C
command=$1 port=$3
as_superuser() { (cd / && runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -p "$port" "$@"); }
case $command in
look)
  file=$4 role=$5 database=$6 works=false
  IFS= read -r PGPASSWORD && export PGPASSWORD
  if ! as_superuser -d postgres -c 'select 1' >/dev/null 2>&1; then
    echo '{"running":false}'
    exit 0
  fi
  if [ -n "${PGPASSWORD:-}" ] && PGCONNECT_TIMEOUT=5 psql -XAtqw -h 127.0.0.1 -p "$port" -U "$role" -d "$database" -c 'select 1' >/dev/null 2>&1; then
    works=true
  fi
  unset PGPASSWORD
  as_superuser -d postgres -v file="$file" -v works="$works" <<'SQL'
select jsonb_build_object(
  'running', true,
  'roles', (select coalesce(jsonb_agg(rolname order by rolname), '[]') from pg_roles where rolcanlogin),
  'databases', (select jsonb_object_agg(datname, jsonb_build_object('owner', pg_get_userbyid(datdba))) from pg_database where not datistemplate),
  'pendingRestart', (select coalesce(jsonb_agg(name order by name), '[]') from pg_settings where pending_restart),
  'notApplied', (select coalesce(jsonb_agg(name order by name), '[]') from pg_file_settings where sourcefile = :'file' and not applied),
  'passwordWorks', :works);
SQL
  ;;
sql) as_superuser -d "$4" ;;
esac
