# Brings the source of a release to this host and unpacks it into RELEASES/ID.partial, with links to what is shared.
releases=${argument[releases]} partial=${argument[releases]}/${argument[id]}.partial
prepare_user
[[ ! -e $releases/${argument[id]} ]] || exit 0 # built by an earlier attempt of this run
missing=()
for pair in "${shared[@]}"; do [[ -e ${pair#*$'\x1f'} ]] || missing+=("${pair#*$'\x1f'}"); done
((${#missing[@]} == 0)) || fail "shared data is not there: ${missing[*]}"
# One that is there keeps its owner and mode
[[ -d $releases ]] || install -d -o "$uid" -g "$gid" -m 0755 "$releases" || fail_for_space "cannot make $releases"
rm -rf "$partial"
install -d -o "$uid" -g "$gid" -m 0755 "$partial" || fail_for_space "cannot make $partial"

case ${argument[kind]} in
  git)
    command -v git >/dev/null || fail "git is not installed on $(uname -n): install it (provision-host does)"
    mirror=$releases/.mirror.git
    [[ -d $mirror ]] || as_user git init --quiet --bare "$mirror" || fail_for_space "cannot make $mirror"
    echo "fetching ${argument[url]}" >&2
    # A fetch that was killed may have left its locks; nobody else fetches, the run holds the system
    find "$mirror" -name '*.lock' -delete
    words=$(as_user git -C "$mirror" fetch --quiet --prune --force -- "${argument[url]}" '+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*' 2>&1) ||
      fail_for_space "git does not fetch ${argument[url]}: $(cause_in "$words")"
    as_user git -C "$mirror" cat-file -e "${argument[commit]}^{commit}" 2>/dev/null ||
      as_user git -C "$mirror" fetch --quiet -- "${argument[url]}" "${argument[commit]}" >&2 ||
      fail "${argument[url]} does not have the commit ${argument[commit]} any more"
    unpack() { as_user git -C "$mirror" archive --format=tar "${argument[commit]}" | as_user tar --extract --directory "$partial"; }
    words=$(unpack 2>&1) || fail_for_space "the commit could not be unpacked into $partial: $(cause_in "$words")"
    ;;
  archive)
    for tool in curl zstd openssl; do command -v "$tool" >/dev/null || fail "$tool is not installed on $(uname -n)"; done
    IFS= read -r address # secret: it is signed
    # The archive is read once for its digest and once to unpack it: nothing of a wrong one is ever a release
    archive=$releases/.${argument[id]}.tar.zst
    trap 'rm -f "$archive"' EXIT
    printf 'url = "%s"\n' "$address" | curl --config - --fail --silent --show-error --retry 5 --retry-all-errors --connect-timeout 10 --output "$archive" >&2 ||
      fail_for_space "the archive ${argument[commit]} could not be read from the bucket"
    digest=$(openssl dgst -sha256 -r "$archive")
    [[ ${digest%% *} == "${argument[commit]}" ]] || fail "the archive has the SHA-256 ${digest%% *}, not ${argument[commit]}"
    chown "$uid:$gid" "$archive"
    words=$(as_user tar --extract --zstd --no-same-owner --file "$archive" --directory "$partial" 2>&1) ||
      fail_for_space "the archive could not be unpacked into $partial: $(cause_in "$words")"
    ;;
esac

for pair in "${shared[@]}"; do
  path=$partial/${pair%%$'\x1f'*}
  as_user mkdir -p "${path%/*}" || fail_for_space "cannot make ${path%/*}"
  as_user rm -rf "$path"
  as_user ln -s "${pair#*$'\x1f'}" "$path" || fail_for_space "cannot make the link $path"
done
sync -f "$partial"
