# Every script of a builder container starts with this. What dnf writes is below $T, so that
# nothing of it can be mistaken for the base's.
set -eu
umask 022
T=/var/cache/twostage
mkdir -p "$T/repos" "$T/cache" "$T/log" "$T/persist" "$T/keys" "$T/out"
export LC_ALL=C.UTF-8 TZ=UTC HOME="$T"
# Keys stay in a folder of ours: rpm keeps the bytes of an imported one even after it is removed.
printf '%%_keyring fs\n%%_keyringpath %s/keys\n' "$T" > "$T/.rpmmacros"
if command -v dnf5 > /dev/null; then
    DNF=dnf5
elif command -v dnf > /dev/null; then
    DNF=dnf
else
    echo "twostage: this base has no dnf to find packages with (zypper and microdnf only install them yet, in the runtime RUN)" >&2
    exit 127
fi
private_dnf() {
    "$DNF" --assumeyes --setopt=reposdir="$T/repos" --setopt=cachedir="$T/cache" --setopt=logdir="$T/log" \
        --setopt=persistdir="$T/persist" --setopt=install_weak_deps=False --setopt=best=True --setopt=skip_if_unavailable=False "$@"
}
# Our own server is reached as a proxy for its fixed host, everything else as the base says.
if [ -e "$T/sources/twostage.repo" ]; then
    { sed 's/^\[.*/[twostage]/' "$T/sources/twostage.repo"; printf 'proxy=%s\npriority=1\n' "$TWOSTAGE_PROXY"; } > "$T/repos/twostage.repo"
fi
# distribution: from here on dnf knows the base's own repositories too; what the project built, and
# what was locked before, goes first.
distribution() {
    for file in /etc/yum.repos.d/*.repo /etc/distro.repos.d/*.repo; do
        if [ -e "$file" ]; then cp "$file" "$T/repos"; fi
    done
}
# with_build_requires SPEC COMMAND...: runs the command with what a spec file needs, if it needs anything.
with_build_requires() {
    rpmspec -q --buildrequires "$1" > "$T/requires"
    sed -i '/^rpmlib(/d' "$T/requires"
    shift
    if [ ! -s "$T/requires" ]; then return; fi
    while read -r dependency; do set -- "$@" "$dependency"; done < "$T/requires"
    "$@"
}
