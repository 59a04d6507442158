# Reads one object to stdout and nothing to a disk. A broken connection is taken up again where it broke.
need_arguments object-url region retry-seconds stored-bytes sha256
need_tools openssl curl

# download: leaves download.failed ("CODE message") when it gives up; the bytes it delivered are in download.bytes.
download() {
  local received=0 request=() http status got verdict why deadline=0 delay=1 url=${argument[object-url]}
  [[ -z ${argument[version-id]:-} ]] || url="$url?versionId=${argument[version-id]}"
  while :; do
    request=(--header "x-amz-content-sha256: UNSIGNED-PAYLOAD")
    ((received == 0)) || request+=(--header "Range: bytes=$received-")
    : >"$scratch/get.body"
    # --fail keeps an error's XML out of the stream; --fail-with-body would write it there
    http=$(s3_curl --fail "${request[@]}" --dump-header "$scratch/get.head" --output /dev/fd/8 \
      --write-out '%{http_code} %{size_download}' "$url" 8>&1 >&7 2>"$scratch/get.err" 7>&1)
    status=$?
    read -r http got <<<"$http"
    received=$((received + ${got:-0}))
    if ((status == 0)) && [[ $http == 200 || $http == 206 ]]; then break; fi
    judge_download "$status" "$http"
    case $verdict in
      missing) download_failed artifact-missing "$why"; return 1 ;;
      refused) download_failed store-refused "$why"; return 1 ;;
      closed) break ;; # the reader has failed, and says why
    esac
  done
}
