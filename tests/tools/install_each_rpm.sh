#!/bin/sh
# In a container of an rpm distribution: a fresh client for each line `FROM CLIENT_FILE PACKAGE LABEL`
# of standard input downloads the package with all that it needs, and checks it.
#
#   install_each_rpm.sh dnf|zypper SERVER        SERVER is http://host:port
#
# The client file's addresses are changed from SERVER/ to SERVER/FROM/, and SERVER is the client's proxy: an
# address that has been tampered with is asked of nobody else.
#
# For each line one line with tabs between: the label; `taken` or `refused`; the digests of all
# packages that a client has taken (sorted, joined with +); its first complaints. Nothing of one client is
# left for the next.
set -u
manager=$1
server=$2
home=$(mktemp -d)
client=$home/client
database=$(rpm --eval %_dbpath)
rpm -qa > /dev/null
cp -a "$database" "$home/database"
export HOME="$client" LC_ALL=C.UTF-8
download() {
    case $manager in
    dnf)
        dnf --assumeyes --setopt=reposdir="$client/repos" --setopt=cachedir="$client/cache" --setopt=logdir="$client/log" \
            --setopt=persistdir="$client/persist" --setopt=proxy="$server" --setopt=install_weak_deps=False \
            --setopt=skip_if_unavailable=False --setopt=retries=1 --setopt=timeout=5 install --downloadonly "$1"
        ;;
    zypper)
        http_proxy=$server ZYPP_LOGFILE=$client/log zypper --non-interactive --gpg-auto-import-keys --reposd-dir "$client/repos" \
            --cache-dir "$client/cache" --solv-cache-dir "$client/cache/solv" --raw-cache-dir "$client/cache/raw" \
            --pkg-cache-dir "$client/cache/packages" install --no-recommends --download-only "$1"
        ;;
    esac
}
while read -r from file package label; do
    rm -rf "$client" "$database" /var/lib/zypp /var/cache/zypp
    cp -a "$home/database" "$database"
    mkdir -p "$client/repos" "$client/cache"
    sed "s|=$server/|=$server/$from/|" "$file" > "$client/repos/main.repo"
    verdict=refused
    got=
    if download "$package" > "$home/said" 2>&1 < /dev/null; then
        verdict=taken
        got=$(find "$client/cache" -name '*.rpm' -exec sha256sum {} + | cut -d ' ' -f 1 | sort | tr '\n' '+')
    fi
    said=$(grep -m 4 -iE 'error|signed|no provider|fail|invalid|wrong' "$home/said" | tr '\t\n' '  ')
    printf '%s\t%s\t%s\t%s\n' "$label" "$verdict" "${got%+}" "${said:-$(tail -n 1 "$home/said" | tr '\t' ' ')}"
done
rm -rf "$home"
