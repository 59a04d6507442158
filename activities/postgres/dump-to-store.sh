# Dumps one database, compressed and encrypted, into the parts of a multipart upload: no byte touches a disk.
#   pg_dump -> head and count -> zstd -> age -> parts
# Each process is started by itself between named pipes, so every one's own exit status is judged.
# Result: {"kind":"database", bytes, sha256, parts, "database":{...identity, from the dump's own snapshot}, "contents":{...from the dump's table of contents}, "tools":{...}}

await_server "${argument[server-wait-seconds]:-120}" also-when-silent

# 1. A session that exports the snapshot, so that the identity, the position in the WAL and the dump are of one moment.
mkfifo "$scratch/sql" "$scratch/answers"
(pg psql -XAtq --set ON_ERROR_STOP=1 --dbname "$(connection_string)") \
  <"$scratch/sql" >"$scratch/answers" 2>"$scratch/psql.err" & session=$!
children+=("$session")
exec {sql_fd}>"$scratch/sql" {answers_fd}<"$scratch/answers"
cat 1>&"$sql_fd" 2>/dev/null <<'SQL'
set client_encoding = 'UTF8';
set idle_in_transaction_session_timeout = 0;
begin transaction isolation level repeatable read, read only;
select pg_export_snapshot();
select current_setting('server_version_num')::int / 10000;
select jsonb_build_object(
  'name', current_database(),
  'oid', (select oid::text from pg_database where datname = current_database()),
  'systemIdentifier', (select system_identifier::text from pg_control_system()),
  'serverVersion', current_setting('server_version_num')::int,
  'bytes', pg_database_size(current_database()),
  'encoding', pg_encoding_to_char((select encoding from pg_database where datname = current_database())),
  'standby', pg_is_in_recovery(),
  'lsn', (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text,
  'at', to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
  'extensions', (select coalesce(jsonb_object_agg(extname, extversion), '{}') from pg_extension));
SQL
read -r -t 60 -u "$answers_fd" snapshot && read -r -t 60 -u "$answers_fd" server_major && read -r -t 60 -u "$answers_fd" identity || {
  kill "$session" 2>/dev/null
  wait "$session"
  fail_for_database database-unreachable "the server did not answer on port ${argument[port]}" "$scratch/psql.err"
}
[[ $server_major == "$major" ]] ||
  fail version-mismatch "the server is PostgreSQL $server_major, the inventory says $major: correct the inventory"

# 2. The stream.
mkfifo "$scratch/dump" "$scratch/plain" "$scratch/encrypted"
# pg_dump writes 4 KiB at a time by itself; larger pieces cost less of the processor on their way through the pipes.
(! command -v stdbuf >/dev/null || through=(stdbuf --output=1M)
pg pg_dump --format=custom --compress=0 --lock-wait-timeout="${argument[lock-wait-seconds]:-60}s" \
  --snapshot="$snapshot" --dbname="$(connection_string)") </dev/null >"$scratch/dump" 2>"$scratch/pg_dump.err" & dumper=$!

# Reads the table of contents off the head of the stream as it passes, then counts the rest.
list_contents() {
  if [[ -n ${container:-} ]]; then # its programs are inside
    (pg pg_restore --list) <"$scratch/head" >"$scratch/contents" 2>"$scratch/contents.err"
  else
    "$programs/pg_restore" --list "$scratch/head" >"$scratch/contents" 2>"$scratch/contents.err"
  fi
}
pass_on() {
  local mebibytes=1 wanted=0 size
  while :; do
    wanted=$((wanted + mebibytes * 1048576))
    dd bs=1M count="$mebibytes" iflag=fullblock status=none >>"$scratch/head" || return 70
    size=$(stat -c %s "$scratch/head")
    list_contents && break
    ((size == wanted)) || return 75 # the stream has ended and it is still no archive
    ((size < 67108864)) || return 75
    mebibytes=$((size / 1048576))
  done
  echo "$size" >"$scratch/read.before"
  cat "$scratch/head" && rm "$scratch/head" && dd bs=128K status=progress 2>"$scratch/read.log"
}
pass_on <"$scratch/dump" >"$scratch/plain" & passer=$!
children+=("$dumper" "$passer")
compress_and_encrypt "$scratch/plain" "$scratch/encrypted"
upload_parts "$scratch/encrypted"

# 3. Judge every process, from the store upwards: a failure breaks the pipes above it and looks like an end below it.
judge_compress_and_encrypt
wait "$passer"; passed=$?
wait "$dumper"; dumped=$?
((dumped == 0)) || fail_for_database dump-failed "pg_dump ended with status $dumped" "$scratch/pg_dump.err"
((passed != 70)) || fail scratch-full "the head of the dump could not be kept in $scratch"
((passed != 75)) || fail contents-unreadable "pg_restore --list: $(tail -n 1 "$scratch/contents.err")"
((passed == 0)) || fail check-interrupted "the reader of the dump ended with status $passed"
exec {sql_fd}>&-
wait "$session"
plain_bytes=$(($(cat "$scratch/read.before") + $(tail -c 200 "$scratch/read.log" | tr '\r' '\n' | sed -n 's/^\([0-9]*\) bytes.*/\1/p' | tail -n 1)))

# 4. What the dump holds, by its own table of contents.
header() { sed -n "s/^;[[:space:]]*$1: //p" "$scratch/contents" | head -n 1; }
grep -v '^;' "$scratch/contents" >"$scratch/entries"
awk '$4 == "TABLE" && $5 != "DATA" { name = $5; for (i = 6; i < NF; i++) name = name (i == 6 ? "." : " ") $i; print name }' \
  "$scratch/entries" | sort >"$scratch/tables"
missing=()
for table in "${expected_tables[@]}"; do
  grep -qxF -- "$table" "$scratch/tables" || missing+=("$table")
done
json_list() { # of the lines on stdin
  local line comma=
  printf '['
  while IFS= read -r line; do
    printf '%s%s' "$comma" "$(json_text "$line")"
    comma=,
  done
  printf ']'
}
# A result is small: the names are cut where there are very many, the count is of all.
head -c 24000 "$scratch/tables" | if (($(stat -c %s "$scratch/tables") > 24000)); then sed '$d'; else cat; fi >"$scratch/tables.kept"
printf '{"kind":"database",%s,"database":%s,"contents":{"databaseName":%s,"digest":"%s","entries":%s,"tables":%s,"tablesWithData":%s,"tableNames":%s,"missingTables":%s},"tools":{"pgDump":"%s","zstd":"%s","age":"%s","curl":"%s"}}\n' \
  "$(stored_json "$plain_bytes")" "$identity" "$(json_text "$(header dbname)")" "$(sha256_of "$scratch/entries")" \
  "$(wc -l <"$scratch/entries")" "$(wc -l <"$scratch/tables")" "$(awk '$4 == "TABLE" && $5 == "DATA"' "$scratch/entries" | wc -l)" \
  "$(json_list <"$scratch/tables.kept")" "$(printf '%s\n' "${missing[@]}" | grep -v '^$' | json_list)" \
  "$(header 'Dumped by pg_dump version')" "$(version_of zstd)" "$(version_of age)" "$(version_of curl)"
