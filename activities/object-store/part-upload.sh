# Uploads a stream as the parts of a multipart upload that the worker has created, and does not complete it.
# At most three parts lie in the scratch directory: two on their way, one being read.
need_arguments object-url upload-id region part-size max-parts retry-seconds
need_tools openssl curl zstd age dd base64
((${#recipients[@]} > 0)) || fail bad-arguments 'no recipient= given'
part_size=${argument[part-size]}
((part_size % 1048576 == 0 && part_size > 0)) || fail bad-arguments "part-size=$part_size is not a multiple of 1 MiB"
free=$(($(stat -f -c '%a * %S' "$scratch")))
((free >= 3 * part_size + 1048576)) ||
  fail scratch-full "$scratch has $((free / 1048576)) MiB free; three parts of $((part_size / 1048576)) MiB are needed"
started=$EPOCHREALTIME

# put_part NUMBER: runs in the background; leaves put.NUMBER ("NUMBER etag size sha256") or put.failed ("CODE message").
put_part() {
  local number=$1 file=$scratch/part.$1 sha checksum=() deadline=0 delay=1 http status verdict why etag
  sha=$(sha256_of "$file") || { put_failed scratch-full "part $number could not be read back"; return; }
  if [[ ${argument[checksum]:-} == sha256 ]]; then
    checksum=(--header "x-amz-checksum-sha256: $(printf '%b' "$(sed 's/../\\x&/g' <<<"$sha")" | base64 -w 0)")
  fi
  while :; do
    # The payload's digest is signed, so every S3 server checks what it received; a stored checksum is on top of that.
    http=$(s3_curl --upload-file "$file" --header "x-amz-content-sha256: $sha" "${checksum[@]}" \
      --dump-header "$scratch/head.$number" --output "$scratch/body.$number" \
      "${argument[object-url]}?partNumber=$number&uploadId=${argument[upload-id]}" 2>"$scratch/err.$number")
    status=$?
    if ((status == 0)) && [[ $http == 200 ]]; then
      etag=$(sed -n 's/^etag:[[:space:]]*"\{0,1\}\([^"[:space:]]*\).*/\1/Ip' "$scratch/head.$number")
      [[ -z $etag ]] || break
      # An answer that is cut off within its header looks like a success (curl 7.88)
      verdict=retry why='the answer has no ETag'
    else
      judge_request "$status" "$http" "$scratch/body.$number" "$scratch/err.$number"
    fi
    case $verdict in
      gone) put_failed upload-gone "part $number: $why"; return ;;
      refused | missing) put_failed store-refused "part $number: $why"; return ;;
      scratch) put_failed scratch-full "part $number: $why"; return ;;
    esac
    ((deadline)) || deadline=$((SECONDS + argument[retry-seconds]))
    if ((SECONDS + delay > deadline)); then
      put_failed store-unavailable "part $number, tried for ${argument[retry-seconds]} s: $why"
      return
    fi
    printf 'part %s: %s; trying again in %s s\n' "$number" "$why" "$delay" >&2
    pause "$delay"
    delay=$((delay < 16 ? delay * 2 : 16))
  done
  printf '%s %s %s %s\n' "$number" "$etag" "$(stat -c %s "$file")" "$sha" >"$scratch/put.$number.new"
  rm -f "$file" "$scratch/"{head,body,err}".$number"
  mv "$scratch/put.$number.new" "$scratch/put.$number"
}
put_failed() {
  printf '%s %s\n' "$1" "$2" >"$scratch/put.failed"
  return 1
}
check_parts() {
  local code message
  [[ ! -e $scratch/put.failed ]] || {
    read -r code message <"$scratch/put.failed"
    fail "$code" "$message"
  }
}

report_progress() {
  local read=0 stored=0 line
  # dd writes its count with a carriage return, so the newest number is near the end
  line=$(tail -c 200 "$scratch/read.log" 2>/dev/null | tr '\r' '\n' | sed -n 's/^\([0-9]*\) bytes.*/\1/p' | tail -n 1)
  read=$((${line:-0} + $(cat "$scratch/read.before" 2>/dev/null || echo 0)))
  stored=$(cat "$scratch"/put.[0-9]* 2>/dev/null | awk '{ s += $3 } END { printf "%.0f", s }')
  printf 'guardia:progress {"bytes":%s,"stored":%s}\n' "$read" "${stored:-0}" >&2
}

# upload_parts FIFO: reads it to its end. The caller must then judge every process that wrote into it: the end of the
# stream alone says nothing. Sets stored_bytes, part_count, sha256, composite_sha256, parts_digest.
upload_parts() {
  local number=0 size=0 reader hasher ticker running=() pid
  mkfifo "$scratch/hash"
  openssl dgst -sha256 -r <"$scratch/hash" >"$scratch/sha256" & hasher=$!
  children+=("$hasher")
  (while pause 2; kill -0 $$ 2>/dev/null; do report_progress; done) & ticker=$!
  children+=("$ticker")
  exec {stream_fd}<"$1" {hash_fd}>"$scratch/hash"
  stored_bytes=0
  while :; do
    number=$((number + 1))
    # In the background, because bash runs a trap only between foreground commands
    dd bs=1M count=$((part_size / 1048576)) iflag=fullblock of="$scratch/part.$number" status=none <&"$stream_fd" 2>"$scratch/dd.err" & reader=$!
    children+=("$reader")
    wait "$reader" || fail scratch-full "part $number: $(tail -n 1 "$scratch/dd.err")"
    size=$(stat -c %s "$scratch/part.$number")
    ((size > 0)) || break
    ((number <= argument[max-parts])) ||
      fail too-many-parts "more than ${argument[max-parts]} parts of $((part_size / 1048576)) MiB"
    cat "$scratch/part.$number" >&"$hash_fd" || fail check-interrupted 'openssl dgst ended early'
    stored_bytes=$((stored_bytes + size))
    if ((${#running[@]} == 2)); then
      wait "${running[0]}"
      running=("${running[1]}")
    fi
    check_parts
    put_part "$number" & running+=("$!")
    children+=("$!")
    ((size == part_size)) || break
  done
  ((size > 0)) || number=$((number - 1))
  rm -f "$scratch/part.$((number + 1))"
  exec {hash_fd}>&- {stream_fd}<&-
  for pid in "${running[@]}"; do wait "$pid"; done
  check_parts
  wait "$hasher" || fail check-interrupted 'openssl dgst failed'
  kill "$ticker"
  wait "$ticker" 2>/dev/null
  report_progress
  part_count=$number
  read -r sha256 _ <"$scratch/sha256"
  local all=() n
  for ((n = 1; n <= part_count; n++)); do all+=("$scratch/put.$n"); done
  ((part_count > 0)) || return 0
  cat "${all[@]}" >"$scratch/parts" || fail check-interrupted 'the record of a part is missing'
  parts_digest=$(awk '{ print $1, $2, $3 }' "$scratch/parts" | openssl dgst -sha256 -r) parts_digest=${parts_digest%% *}
  composite_sha256=$(printf '%b' "$(awk '{ print $4 }' "$scratch/parts" | tr -d '\n' | sed 's/../\\x&/g')" |
    openssl dgst -sha256 -binary | base64 -w 0)-$part_count
}

# The members of the result that every artifact has.
stored_json() { # PLAIN_BYTES
  printf '"bytes":{"plain":%s,"stored":%s},"sha256":"%s","parts":{"size":%s,"count":%s,"compositeSha256":"%s","digest":"%s"}' \
    "$1" "$stored_bytes" "$sha256" "$part_size" "$part_count" "$composite_sha256" "$parts_digest"
  printf ',"level":%s,"seconds":%s' "${argument[level]:-1}" \
    "$(awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f", b - a }')"
}

# Compresses and encrypts FIFO_IN into FIFO_OUT; the two processes are $compressor and $encryptor.
compress_and_encrypt() {
  local options=() recipient
  for recipient in "${recipients[@]}"; do options+=(--recipient "$recipient"); done
  mkfifo "$scratch/compressed"
  zstd -q "-${argument[level]:-1}" -T1 -c <"$1" >"$scratch/compressed" 2>"$scratch/zstd.err" & compressor=$!
  age --encrypt "${options[@]}" <"$scratch/compressed" >"$2" 2>"$scratch/age.err" & encryptor=$!
  children+=("$compressor" "$encryptor")
}
# Judges both. A broken pipe (141) is the echo of a failure further down.
judge_compress_and_encrypt() {
  local status
  wait "$encryptor"; status=$?
  ((status == 0)) || fail encryption-failed "age ended with status $status: $(tail -n 1 "$scratch/age.err")"
  wait "$compressor"; status=$?
  ((status == 0)) || fail compression-failed "zstd ended with status $status: $(tail -n 1 "$scratch/zstd.err")"
}
