# Archives configuration files, compressed and encrypted, into the parts of a multipart upload:
#   tar -> count -> zstd -> age -> parts
# Nothing leaves the host unencrypted and nothing is written outside the scratch directory.
# Result: {"kind":"configuration", bytes, sha256, parts, "contents":{digest, entries, files}, "tools":{...}}
need_tools tar

# 1. The names. A pattern that matches nothing is a missing path, not an empty archive.
shopt -s nullglob dotglob
missing=()
: >"$scratch/wanted"
add_path() { # PATH; also what it points to, since a link alone would save nothing
  local target
  printf '%s\0' "${1#/}" >>"$scratch/wanted"
  if [[ -L $1 ]]; then
    target=$(readlink -f -- "$1") && [[ -e $target ]] || return 1
    printf '%s\0' "${target#/}" >>"$scratch/wanted"
  fi
}
add_pattern() {
  local path found=1 IFS=
  # Unquoted on purpose: the shell expands the pattern, IFS keeps spaces
  for path in $1; do
    [[ -e $path || -L $path ]] || continue
    add_path "$path" && found=0
  done
  return "$found"
}
for pattern in "${required_paths[@]}"; do add_pattern "$pattern" || missing+=("$pattern"); done
((${#missing[@]} == 0)) || fail path-missing "not found on $(uname -n), or a link to nothing: ${missing[*]}"
for pattern in "${optional_paths[@]}"; do add_pattern "$pattern"; done
# A path below another one is saved with it
declare -A chosen=()
while IFS= read -r -d '' path; do
  above=$path
  while [[ $above == */* ]]; do
    above=${above%/*}
    [[ -n ${chosen[$above]:-} && -d /$above && ! -L /$above ]] && continue 2
  done
  chosen[$path]=1
  printf '%s\0' "$path"
done < <(sort -zu "$scratch/wanted") >"$scratch/paths"
[[ -s $scratch/paths ]] || fail nothing-to-store "none of the optional paths exists on $(uname -n)"

# 2. The stream.
mkfifo "$scratch/archive" "$scratch/plain" "$scratch/encrypted"
tar --create --file=- --directory=/ --format=posix --sort=name --numeric-owner --acls --xattrs --quoting-style=escape \
  --null --verbatim-files-from --files-from="$scratch/paths" --verbose --index-file="$scratch/index" >"$scratch/archive" 2>"$scratch/tar.err" & archiver=$!
pass_on() { dd bs=128K status=progress 2>"$scratch/read.log"; }
pass_on <"$scratch/archive" >"$scratch/plain" & passer=$!
children+=("$archiver" "$passer")
compress_and_encrypt "$scratch/plain" "$scratch/encrypted"
upload_parts "$scratch/encrypted"
judge_compress_and_encrypt
wait "$passer"; passed=$?
wait "$archiver"; archived=$?
# 1 is "a file changed as we read it": half a file is not a backup
((archived == 0)) || fail archive-failed "tar ended with status $archived: $(grep -v 'Removing leading' "$scratch/tar.err" | tail -n 1)"
((passed == 0)) || fail check-interrupted "the reader of the archive ended with status $passed"
sort "$scratch/index" >"$scratch/entries"
[[ -s $scratch/entries ]] || fail nothing-to-store 'tar wrote no name'
plain_bytes=$(tail -c 200 "$scratch/read.log" | tr '\r' '\n' | sed -n 's/^\([0-9]*\) bytes.*/\1/p' | tail -n 1)
printf '{"kind":"configuration",%s,"contents":{"digest":"%s","entries":%s,"files":%s},"tools":{"tar":"%s","zstd":"%s","age":"%s","curl":"%s"}}\n' \
  "$(stored_json "$plain_bytes")" "$(sha256_of "$scratch/entries")" "$(wc -l <"$scratch/entries")" "$(grep -vc '/$' "$scratch/entries")" \
  "$(version_of tar)" "$(version_of zstd)" "$(version_of age)" "$(version_of curl)"
