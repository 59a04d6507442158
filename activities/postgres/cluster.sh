# A PostgreSQL cluster of Debian's. Run as `bash -c SCRIPT cluster COMMAND MAJOR PORT ...`.
#   look MAJOR PORT FILE ROLE DATABASE NAMES    one JSON object; the password of ROLE, if there is one, by stdin; settings, with commas
#   sql MAJOR PORT DATABASE                     runs SQL from stdin as the superuser and prints what it answers
set -u
export LC_ALL=C
command=$1 version=$2 port=$3
as_superuser() { (cd / && runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -p "$port" "$@"); }
# What a server that does not run would start with, as a member of an object. Nothing where that cannot be told.
would_be() {
  local value
  value=$(cd / && runuser -u postgres -- "/usr/lib/postgresql/$version/bin/postgres" -D "${file%/conf.d/*}" -C "$1" 2>/dev/null) || return 0
  value=${value//\\/\\\\}
  printf '%s"%s":{"value":"%s","type":"string","unit":null,"file":null}' "$2" "$1" "${value//\"/\\\"}"
}
case $command in
look)
  file=$4 role=$5 database=$6 names=$7 works=false
  IFS= read -r PGPASSWORD && export PGPASSWORD
  if ! as_superuser -d postgres -c 'select 1' >/dev/null 2>&1; then
    settings='' comma=''
    for name in shared_preload_libraries wal_level; do
      [[ ,$names, == *,"$name",* ]] || continue
      settings+=$(would_be "$name" "$comma")
      [ -n "$settings" ] && comma=,
    done
    echo "{\"running\":false,\"settings\":{$settings}}"
    exit 0
  fi
  if [ -n "${PGPASSWORD:-}" ] && PGCONNECT_TIMEOUT=5 psql -XAtqw -h 127.0.0.1 -p "$port" -U "$role" -d "$database" -c 'select 1' >/dev/null 2>&1; then
    works=true
  fi
  unset PGPASSWORD
  as_superuser -d postgres -v file="$file" -v role="$role" -v names="$names" -v works="$works" <<'SQL'
with later as (
  select distinct on (lower(name)) lower(name) as name, setting, sourcefile, sourceline from pg_file_settings
  where lower(name) = any (string_to_array(:'names', ','))
    and (sourcefile like '%/postgresql.auto.conf'
      or sourcefile like regexp_replace(:'file', '[^/]*$', '%') and sourcefile collate "C" > :'file'
      -- Lines behind the one that has conf.d read.
      or sourcefile = current_setting('config_file') and sourceline > (
        select max(n) from regexp_split_to_table(pg_read_file(current_setting('config_file')), '\n') with ordinality as line (text, n)
        where text ~ '^\s*include_dir'))
  order by lower(name), seqno desc
), ours as (
  select o.name, o.setting, w.setting as winner, coalesce(s.vartype, 'string') as type, s.unit
  from pg_file_settings o left join pg_file_settings w on w.name = o.name and w.applied left join pg_settings s on lower(s.name) = lower(o.name)
  where o.sourcefile = :'file' and not o.applied
)
select jsonb_build_object(
  'running', true,
  'roles', (select coalesce(jsonb_agg(rolname order by rolname), '[]') from pg_roles where rolcanlogin),
  'databases', (select jsonb_object_agg(datname, jsonb_build_object('owner', pg_get_userbyid(datdba))) from pg_database where not datistemplate),
  'pendingRestart', (select coalesce(jsonb_agg(name order by name), '[]') from pg_settings where pending_restart),
  'notApplied', (select coalesce(jsonb_agg(jsonb_build_object('name', name, 'value', setting, 'winner', winner, 'type', type, 'unit', unit) order by name), '[]') from ours),
  'settings', (select coalesce(jsonb_object_agg(lower(name), jsonb_build_object('value', current_setting(name), 'type', vartype, 'unit', unit, 'file', sourcefile)), '{}')
    from pg_settings where lower(name) = any (string_to_array(:'names', ','))),
  'overrides', (select coalesce(jsonb_agg(jsonb_build_object('name', name, 'value', setting, 'file', sourcefile, 'line', sourceline) order by name), '[]') from later),
  'hbaErrors', (select coalesce(jsonb_agg('pg_hba.conf:' || line_number || ': ' || error order by line_number), '[]') from pg_hba_file_rules where error is not null),
  'kept', (select rolpassword from pg_authid where rolname = :'role'),
  'passwordWorks', :works);
SQL
  ;;
sql) as_superuser -d "$4" ;;
esac
