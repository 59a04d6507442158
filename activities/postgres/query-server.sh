# Runs the SQL of the argument sql= in a read-only transaction and prints the answer. Follows server-access.sh.
need_arguments sql
await_server 40 also-when-silent
(pg psql -XAtq --set ON_ERROR_STOP=1 --dbname "$(connection_string)") >"$scratch/answer" 2>"$scratch/psql.err" \
  < <(printf "set client_encoding = 'UTF8';\nbegin transaction read only;\nset local statement_timeout = '60s';\n%s;\nrollback;\n" "${argument[sql]}") ||
  fail_for_database database-unreachable "the server did not answer on port ${argument[port]}" "$scratch/psql.err"
cat "$scratch/answer"
