# Proves one artifact of a recovery point by reading back every byte, on a machine that is not its source:
#   GET -> SHA-256 -> age -d -> zstd -d -> count -> the artifact's own reader (pg_restore, tar, or text)
# "artifact-damaged" means that the bytes in the store are not the backup; every other failure means that nothing was learnt.
# Result: {"kind", "bytes":{plain, stored}, "sha256", "contents":{...}, "seconds", "tools":{...}}
need_arguments kind stored-bytes plain-bytes sha256
need_tools age zstd dd tee
[[ -n ${secret[identity]:-} ]] || fail bad-arguments 'no age identity on stdin'
started=$EPOCHREALTIME

case ${argument[kind]} in
  database)
    need_arguments server-major
    # An archive can be read by its own version of pg_restore or a newer one
    for directory in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do
      [[ -x $directory/pg_restore ]] || continue
      version=$("$directory/pg_restore" --version | grep -Eo '[0-9]+' | head -n 1)
      if ((version >= argument[server-major])) && { [[ -z ${restore_major:-} ]] || ((version < restore_major)); }; then
        restore_major=$version pg_restore=$directory/pg_restore
      fi
    done
    [[ -n ${pg_restore:-} ]] ||
      fail tool-missing "pg_restore ${argument[server-major]} or newer is not installed on $(uname -n): install postgresql-client"
    read_artifact() { "$pg_restore" --file=/dev/null; }
    ;;
  configuration)
    need_tools tar
    read_artifact() { tar --list --quoting-style=escape --file=- >"$scratch/names"; }
    ;;
  globals)
    read_artifact() { awk '/^CREATE ROLE /{ roles++ } /^-- PostgreSQL database cluster dump complete/{ whole = 1 } END { printf "%d\n", roles; exit !(whole && roles) }' >"$scratch/roles"; }
    ;;
  *) fail bad-arguments "kind=${argument[kind]} is not database, configuration or globals" ;;
esac

mkfifo "$scratch/"{stored,hash,encrypted,compressed,plain,counted}
download >"$scratch/stored" & downloader=$!
openssl dgst -sha256 -r <"$scratch/hash" >"$scratch/sha256" & hasher=$!
# Goes on hashing when the decryption has given up: a wrong checksum tells more than a failed decryption
tee --output-error=warn-nopipe "$scratch/encrypted" <"$scratch/stored" >"$scratch/hash" 2>"$scratch/tee.err" & splitter=$!
# The identities reach age by a file descriptor; unquoted, one a line
# shellcheck disable=SC2086
age --decrypt --identity /dev/fd/9 <"$scratch/encrypted" >"$scratch/compressed" 2>"$scratch/age.err" 9< <(printf '%s\n' ${secret[identity]}) & decryptor=$!
zstd -d -q -c <"$scratch/compressed" >"$scratch/plain" 2>"$scratch/zstd.err" & decompressor=$!
children=("$downloader" "$hasher" "$splitter" "$decryptor" "$decompressor")

# The head is kept for the table of contents; everything is counted.
count() {
  if [[ ${argument[kind]} == database ]]; then
    local mebibytes=1 wanted=0 size
    while :; do
      wanted=$((wanted + mebibytes * 1048576))
      dd bs=1M count="$mebibytes" iflag=fullblock status=none >>"$scratch/head" || return 70
      size=$(stat -c %s "$scratch/head")
      "$pg_restore" --list "$scratch/head" >"$scratch/contents" 2>/dev/null && break
      ((size == wanted && size < 67108864)) || break # the reader will say what is wrong
      mebibytes=$((size / 1048576))
    done
    cat "$scratch/head" && rm "$scratch/head"
    echo "$size" >"$scratch/read.before"
  fi
  dd bs=128K status=progress 2>"$scratch/read.log"
}
count <"$scratch/plain" >"$scratch/counted" & counter=$!
read_artifact <"$scratch/counted" >/dev/null 2>"$scratch/reader.err" & reader=$!
children+=("$counter" "$reader")
counted() {
  local line
  line=$(tail -c 200 "$scratch/read.log" 2>/dev/null | tr '\r' '\n' | sed -n 's/^\([0-9]*\) bytes.*/\1/p' | tail -n 1)
  echo $((${line:-0} + $(cat "$scratch/read.before" 2>/dev/null || echo 0)))
}
(while pause 2; kill -0 $$ 2>/dev/null; do
  printf 'guardia:progress {"bytes":%s}\n' "$(counted)" >&2
done) & children+=("$!")

wait "$downloader"
wait "$splitter"; split=$?
wait "$hasher"; hashed=$?
wait "$decryptor"; decrypted=$?
wait "$decompressor"; decompressed=$?
wait "$counter"; count_status=$?
wait "$reader"; read_status=$?
check_download
((hashed == 0)) || fail check-interrupted "openssl dgst ended with status $hashed"
# A checker that was killed (137 by the kernel's memory killer) has found nothing out; 141 is the echo of another's failure
for status in "$split" "$decrypted" "$decompressed" "$count_status" "$read_status"; do
  ((status < 128 || status == 141)) || fail check-interrupted "a checking process was killed (status $status)"
done
((count_status != 70)) || fail scratch-full "the head of the artifact could not be kept in $scratch"

stored_bytes=$(cat "$scratch/download.bytes")
read -r sha256 _ <"$scratch/sha256"
((stored_bytes == argument[stored-bytes])) ||
  fail artifact-damaged "it has $stored_bytes bytes in the store, ${argument[stored-bytes]} were written"
[[ $sha256 == "${argument[sha256]}" ]] || fail artifact-damaged "its SHA-256 is $sha256, ${argument[sha256]} was written"
if ((decrypted != 0)); then
  message=$(grep -v '^$' "$scratch/age.err" | head -n 1)
  case $message in
    *'no identity matched'* | *'malformed secret key'* | *'unknown identity type'* | *'failed to read'*identit* | *'reading "/dev/fd'*) fail identity-refused "$message" ;;
  esac
  fail artifact-damaged "age does not decrypt it: $message"
fi
((decompressed == 0)) || fail artifact-damaged "zstd does not decompress it: $(tail -n 1 "$scratch/zstd.err")"
((read_status == 0)) || fail artifact-damaged "it cannot be read to its end as ${argument[kind]}: $(tail -n 1 "$scratch/reader.err")"
plain_bytes=$(counted)
((plain_bytes == argument[plain-bytes])) ||
  fail artifact-damaged "it has $plain_bytes bytes when decompressed, ${argument[plain-bytes]} were written"

case ${argument[kind]} in
  database)
    grep -v '^;' "$scratch/contents" >"$scratch/entries"
    contents=$(printf '"digest":"%s","entries":%s' "$(sha256_of "$scratch/entries")" "$(wc -l <"$scratch/entries")")
    reader="\"pgRestore\":\"$(version_of "$pg_restore")\"," ;;
  configuration)
    sort "$scratch/names" >"$scratch/entries"
    contents=$(printf '"digest":"%s","entries":%s' "$(sha256_of "$scratch/entries")" "$(wc -l <"$scratch/entries")")
    reader="\"tar\":\"$(version_of tar)\"," ;;
  globals)
    contents=$(printf '"roles":%s' "$(cat "$scratch/roles")")
    reader= ;;
esac
if [[ -n ${argument[contents-digest]:-} && $contents != "\"digest\":\"${argument[contents-digest]}\""* ]]; then
  fail artifact-damaged "its list of contents is not the one that was written"
fi
printf '{"kind":"%s","bytes":{"plain":%s,"stored":%s},"sha256":"%s","contents":{%s},"seconds":%s,"tools":{%s"zstd":"%s","age":"%s","curl":"%s"}}\n' \
  "${argument[kind]}" "$plain_bytes" "$stored_bytes" "$sha256" "$contents" \
  "$(awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f", b - a }')" \
  "$reader" "$(version_of zstd)" "$(version_of age)" "$(version_of curl)"
