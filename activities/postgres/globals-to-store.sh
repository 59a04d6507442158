# Saves what belongs to the whole server and no dump of a database holds: roles, memberships, tablespaces.
# Password hashes are in it where the login may read them; it is encrypted like the rest.
# Result: {"kind":"globals", bytes, sha256, parts, "contents":{"roles":N,"passwords":true|false}, "tools":{...}}
await_server "${argument[server-wait-seconds]:-120}" also-when-silent
may_read=$( (pg psql -XAtq --dbname "$(connection_string)" \
  --command "select has_table_privilege('pg_catalog.pg_authid', 'select'), current_setting('server_version_num')::int / 10000") 2>"$scratch/psql.err") ||
  fail_for_database database-unreachable "the server did not answer on port ${argument[port]}" "$scratch/psql.err"
[[ ${may_read#*|} == "$major" ]] ||
  fail version-mismatch "the server is PostgreSQL ${may_read#*|}, the inventory says $major: correct the inventory"
options=() passwords=true
[[ $may_read == t* ]] || options=(--no-role-passwords) passwords=false

mkfifo "$scratch/dump" "$scratch/plain" "$scratch/encrypted"
(pg pg_dumpall --globals-only "${options[@]}" --lock-wait-timeout="${argument[lock-wait-seconds]:-60}s" \
  --dbname="$(connection_string)") >"$scratch/dump" 2>"$scratch/pg_dumpall.err" & dumper=$!
pass_on() {
  tee "$scratch/copy" | dd bs=128K status=progress 2>"$scratch/read.log"
}
pass_on <"$scratch/dump" >"$scratch/plain" & passer=$!
children+=("$dumper" "$passer")
compress_and_encrypt "$scratch/plain" "$scratch/encrypted"
upload_parts "$scratch/encrypted"
judge_compress_and_encrypt
wait "$passer"; passed=$?
wait "$dumper"; dumped=$?
((dumped == 0)) || fail_for_database dump-failed "pg_dumpall ended with status $dumped" "$scratch/pg_dumpall.err"
((passed == 0)) || fail scratch-full "the roles could not be kept in $scratch"
grep -q '^-- PostgreSQL database cluster dump complete' "$scratch/copy" || fail dump-failed 'the output of pg_dumpall has no end'
roles=$(grep -c '^CREATE ROLE ' "$scratch/copy")
((roles > 0)) || fail nothing-to-store 'pg_dumpall wrote no role'
printf '{"kind":"globals",%s,"contents":{"roles":%s,"passwords":%s},"tools":{"pgDump":"%s","zstd":"%s","age":"%s","curl":"%s"}}\n' \
  "$(stored_json "$(stat -c %s "$scratch/copy")")" "$roles" "$passwords" \
  "$( (pg pg_dumpall --version) | sed 's/^pg_dumpall (PostgreSQL) //')" "$(version_of zstd)" "$(version_of age)" "$(version_of curl)"
