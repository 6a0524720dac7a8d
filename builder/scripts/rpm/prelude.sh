# Every script of a builder container starts with this, after dnf.sh and zypper.sh. What the package
# manager writes is below $T, so that nothing of it can be mistaken for the base's.
set -eu
umask 022
T=/var/cache/twostage
mkdir -p "$T/repos" "$T/cache" "$T/log" "$T/persist" "$T/keys" "$T/out"
export LC_ALL=C.UTF-8 TZ=UTC HOME="$T"
# Keys stay in a folder of ours: rpm keeps the bytes of an imported one even after it is removed. And
# scripts of packages get no mounts of their own, which engines do not allow.
printf '%s\n' '%_keyring fs' "%_keyringpath $T/keys" '%__transaction_unshare %{nil}' > "$T/.rpmmacros"
if command -v zypper > /dev/null; then
    use_zypper
elif command -v dnf5 > /dev/null || command -v dnf > /dev/null; then
    use_dnf
else
    echo "twostage: this base has neither dnf nor zypper to find packages with" >&2
    exit 127
fi
# Our own server is reached as a proxy for its fixed host, everything else as the base says. Its keys
# are here already: dnf 5 would ask for them past the repository's proxy.
if [ -e "$T/sources/twostage.repo" ]; then
    { sed -e 's/^\[.*/[twostage]/' -e "s,http://[^/]*/\(key\.asc\|keys/\),file://$T/sources/\1," "$T/sources/twostage.repo"; printf 'proxy=%s\npriority=1\n' "$TWOSTAGE_PROXY"; } > "$T/repos/twostage.repo"
fi
# distribution: from here on the package manager knows the base's own repositories too; what the
# project built, and what was locked before, goes first.
distribution() {
    for folder in $base_repositories; do
        for file in "$folder"/*.repo; do
            if [ -e "$file" ]; then cp "$file" "$T/repos"; fi
        done
    done
}
# with_build_requires SPEC COMMAND...: runs the command with what a spec file needs, if it needs anything.
with_build_requires() {
    rpmspec -q --buildrequires -- "$1" > "$T/requires"
    sed -i '/^rpmlib(/d' "$T/requires"
    shift
    if [ ! -s "$T/requires" ]; then return; fi
    while read -r dependency; do set -- "$@" "$dependency"; done < "$T/requires"
    "$@"
}
# own_ids: the repositories that are not the project's.
own_ids() { sed -n 's/^\[\(.*\)\]$/\1/p' "$T"/repos/*.repo | grep -vx twostage || :; }
# claims: tells which of the names in $T/claims, one a line, are those of packages that the base has, which needs no mirror,
# or that its repositories have.
claims_of_base() {
    if [ ! -s "$T/claims" ]; then return; fi
    # shellcheck disable=SC2046 # names of packages have no blanks
    { rpm -q --qf '%{NAME}\n' -- $(cat "$T/claims") || :; } | grep -xF -f "$T/claims" | sort -u | sed 's/^/twostage: taken /'
}
claims() {
    if [ ! -s "$T/claims" ]; then return; fi
    claims_of_base
    ids=$(own_ids)
    : > "$T/available"
    # shellcheck disable=SC2046
    if [ -n "$ids" ]; then available "$ids" $(cat "$T/claims") > "$T/available"; fi
    { grep -xF -f "$T/claims" "$T/available" || :; } | sort -u | sed 's/^/twostage: taken /'
    echo 'twostage: claims answered'
}
# index: tells the names of all packages that the base's own repositories have, if $T/index asks for them.
index() {
    if [ ! -e "$T/index" ]; then return; fi
    ids=$(own_ids)
    if [ -z "$ids" ]; then return; fi
    available "$ids" | sed '/^$/d' | sort -u > "$T/indexed"
    paste -d ' ' - - - - - - - - - - - - - - - - - - - - - - - - < "$T/indexed" | sed 's/^/twostage: index /'
    echo "twostage: end of index $(wc -l < "$T/indexed")"
}
