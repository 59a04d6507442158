# Reads one object as a stream; nothing touches a disk. A connection that breaks is taken up again where it broke.
need_arguments object-url region retry-seconds
need_tools openssl curl

# download: writes the object to stdout, the number of bytes into download.bytes, and when it gives up
# "CODE message" into download.failed.
download() {
  local url=${argument[object-url]} received=0 deadline=0 delay=1 range http got status total
  [[ -z ${argument[version-id]:-} ]] || url="$url?versionId=${argument[version-id]}"
  while :; do
    range=()
    ((received == 0)) || range=(--header "Range: bytes=$received-")
    # --fail keeps the XML of an error out of the stream; the numbers go to the error file
    s3_curl --fail --header 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "${range[@]}" --output - --dump-header "$scratch/get.head" \
      --write-out '%{stderr}\n%{http_code} %{size_download}' "$url" 2>"$scratch/get.err"
    status=$?
    read -r http got < <(tail -n 1 "$scratch/get.err")
    if [[ ! $got =~ ^[0-9]+$ ]]; then # killed: how many bytes it has delivered is not known
      echo "check-interrupted curl ended with status $status" >"$scratch/download.failed"
      return
    fi
    if ((received > 0 && got > 0)) && [[ $http != 206 ]]; then
      echo "store-refused the server does not continue a broken download (HTTP $http to a range)" >"$scratch/download.failed"
      return
    fi
    received=$((received + got))
    echo "$received" >"$scratch/download.bytes"
    # An answer that is cut off within its header looks like a success with an empty body (curl 7.88): only the size
    # that the server named says that all has come.
    case $http in
      200) total=$(answer_header content-length) ;;
      206) total=$(answer_header content-range) total=${total##*/} ;;
      *) total= ;;
    esac
    if ((status == 0)) && [[ -n $total ]] && ((received >= total)); then return; fi
    case $status:$http in
      22:404) echo 'artifact-missing the object is not in the bucket (HTTP 404)' >"$scratch/download.failed"; return ;;
      22:416) return ;; # there is nothing after the bytes that have come
      22:5?? | 22:429 | 22:408) ;;
      22:*) echo "store-refused HTTP $http" >"$scratch/download.failed"; return ;;
      23:*) return ;; # the reader has gone, and says why
      1:* | 2:* | 3:* | 60:* | 77:* | 83:* | 91:*)
        echo "store-refused $(get_problem)" >"$scratch/download.failed"
        return ;;
    esac
    if ((got > 0)); then deadline=0 delay=1; fi # it moves: only standing still uses up the budget
    ((deadline)) || deadline=$((SECONDS + argument[retry-seconds]))
    if ((SECONDS + delay > deadline)); then
      echo "store-unavailable tried for ${argument[retry-seconds]} s after $received bytes: $(get_problem)" >"$scratch/download.failed"
      return
    fi
    echo "after $received bytes: $(get_problem); going on in $delay s" >&2
    pause "$delay"
    delay=$((delay < 16 ? delay * 2 : 16))
  done
}
answer_header() { sed -n "s/^$1:[[:space:]]*\([^[:space:]].*[^[:space:]]\|[^[:space:]]\)[[:space:]]*\$/\1/Ip" "$scratch/get.head" | tail -n 1; }
get_problem() {
  local line
  line=$(grep '^curl:' "$scratch/get.err" | tail -n 1)
  printf '%s' "${line:-curl: the answer was cut off}"
}
check_download() {
  local code message
  [[ ! -e $scratch/download.failed ]] || {
    read -r code message <"$scratch/download.failed"
    fail "$code" "$message"
  }
}
