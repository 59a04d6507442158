# Looks at a server before a dump is planned: one JSON object about the database and its cluster. Reads only.
await_server 40
(pg psql -XAtq --set ON_ERROR_STOP=1 --dbname "$(connection_string)") >"$scratch/answer" 2>"$scratch/psql.err" <<'SQL' || fail_for_database database-unreachable "the server did not answer on port ${argument[port]}" "$scratch/psql.err"
select jsonb_build_object(
  'bytes', pg_database_size(current_database()),
  'systemIdentifier', (select system_identifier::text from pg_control_system()),
  'serverVersion', current_setting('server_version_num')::int);
SQL
server_major=$(sed -n 's/.*"serverVersion": \([0-9]*\)[0-9]\{4\}.*/\1/p' "$scratch/answer")
[[ $server_major == "$major" ]] ||
  fail version-mismatch "the server is PostgreSQL $server_major, the inventory says $major: correct the inventory"
cat "$scratch/answer"
