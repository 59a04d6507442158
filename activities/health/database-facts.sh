# Looks at a database for a probe: open connections, whether a role may log in, and what a query returns. Reads only.
# Arguments besides those of the login: role= and query=, both optional.
sql() { (pg psql -XAtq --set ON_ERROR_STOP=1 --dbname "$(connection_string)") 2>"$scratch/psql.err"; }
# Without waiting for a server that does not answer yet: that is what is to be found out.
literal() { printf "'%s'" "${1//\'/\'\'}"; }
sql <<SQL || fail_for_database database-unreachable "the server did not answer on port ${argument[port]}" "$scratch/psql.err"
select 'connections=' || numbackends from pg_stat_database where datname = current_database();
select 'login=' || coalesce((select rolcanlogin::text from pg_roles where rolname = $(literal "${argument[role]:-}")), 'missing');
SQL
if [[ -n ${argument[query]:-} ]]; then
  answer=$(
    sql <<SQL || fail_for_database database-unreachable "the query failed" "$scratch/psql.err"
begin read only;
set local statement_timeout = '${argument[query-seconds]}s';
${argument[query]};
rollback;
SQL
  ) || exit
  printf 'answer=%s\n' "${answer:0:2000}"
fi
