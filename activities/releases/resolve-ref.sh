# Which commit a ref is now, and the migrations that this commit brings. Reads only: what it fetches for that is removed again.
# Prints: "commit SHA", "subject TEXT", "file PATH" for each file below the migrations' directory.
command -v git >/dev/null || fail "git is not installed on $(uname -n): install it (provision-host does)"
prepare_user
ref=${argument[ref]} url=${argument[url]}
if [[ $ref =~ ^[0-9a-f]{40}$ ]]; then
  commit=$ref
else
  answer=$(as_user git ls-remote --quiet -- "$url" "refs/heads/$ref" "refs/tags/$ref" "refs/tags/$ref^{}" 2>&1) ||
    fail "git does not read $url: $(tail -n 1 <<<"$answer")"
  branch=$(awk -v name="refs/heads/$ref" '$2 == name { print $1 }' <<<"$answer")
  # The commit of an annotated tag stands in a line of its own, after the tag
  tag=$(awk -v name="refs/tags/$ref" '$2 == name || $2 == name "^{}" { found = $1 } END { print found }' <<<"$answer")
  [[ -z $branch || -z $tag || $branch == "$tag" ]] || fail "$ref is a branch and a tag of $url, and they differ: name the commit"
  commit=${branch:-$tag}
  [[ $commit =~ ^[0-9a-f]{40}$ ]] || fail "$url has no branch and no tag $ref"
fi
echo "commit $commit"
[[ -n ${argument[migrations]:-} ]] || exit 0

look=$(mktemp -d) || fail_for_space 'no temporary directory can be made'
trap 'rm -rf "$look"' EXIT
chown "$uid:$gid" "$look"
as_user git init --quiet --bare "$look/git"
# Only the trees where the server allows it; a server that does not sends the snapshot
as_user git -C "$look/git" fetch --quiet --depth 1 --filter=blob:none -- "$url" "$commit" 2>"$look/error" ||
  as_user git -C "$look/git" fetch --quiet --depth 1 -- "$url" "$([[ $ref == "$commit" ]] && echo "$commit" || echo "$ref")" 2>"$look/error" ||
  fail "git does not fetch $ref from $url: $(tail -n 1 "$look/error")"
echo "subject $(as_user git -C "$look/git" log -1 --format=%s "$commit" | tr -d '\000-\037')"
as_user git -C "$look/git" ls-tree -r --name-only -z "$commit" -- "${argument[migrations]}/" | tr '\0\n' '\n ' | sed 's/^/file /'
