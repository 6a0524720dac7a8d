#!/bin/sh
# An engine newer than this machine's, for tests: trixie_engine.sh docker|podman FOLDER CACHE
#
# Starts the engine of Debian 13 (trixie) with all its state in FOLDER, prints the address of its socket
# once it answers, and ends, folder and all, when its standard input does. The engine lives in a root
# file system of its own (CACHE/trixie-<digest of this recipe>), which is made when it is not there, from
# the mirror that this host's apt uses; MIRROR="deb http://... trixie main" is used instead. It shares
# this machine's network, and nothing else that it writes to. Needs root and mmdebstrap.
set -eu
# Whoever ends this by a signal closes its standard input, too; then all is taken away in order.
trap : TERM INT

# (With xz, dockerd unpacks what is packed with it.)
PACKAGES=docker.io,iptables,podman,runc,netavark,curl,ca-certificates,xz-utils

say() { echo "trixie_engine.sh: $*" >&2; }

# The host's own apt sources, as twostage's `bootstrap` takes them, but of trixie.
sources() {
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ "$(. /etc/os-release && echo "$ID")" = debian ] || return 0
    # shellcheck disable=SC2016 # apt expands these
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' |
        awk -v codename="$codename" 'index($2, codename) == 1 {
            pocket = substr($2, length(codename) + 1)
            if (pocket ~ /^(|-updates|-security)$/) print "deb " $1 " trixie" pocket " " $3
        }' | sort -u
}

make_root() { # make_root ROOT
    mirror=${MIRROR:-$(sources)}
    if [ -z "$mirror" ]; then
        say 'apt names no mirror of Debian: run apt-get update, or name one with MIRROR="deb http://... trixie main"'
        return 1
    fi
    rm -rf "$1.new"
    echo "$mirror" > "$1.list"
    # A read-only lower folder of an overlay; what nobody runs is left out.
    if ! mmdebstrap --quiet --variant=minbase --format=directory --include="$PACKAGES" --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        trixie "$1.new" "$1.list" > "$1.log" 2>&1 < /dev/null; then
        tail -n 20 "$1.log" >&2
        rm -rf "$1.new"
        say "mmdebstrap could not make a root of trixie"
        return 1
    fi
    # Whole, or not there.
    mv "$1.new" "$1"
    rm -f "$1.list" "$1.log"
}

# What is below is the same file, run again inside: as init of a process namespace of its own (so that whatever the engine
# started ends with it), with mounts of its own, which are gone with it too.
if [ "$1" = --inside ]; then
    engine=$2 folder=$3 root=$4 bridge=$5
    mkdir "$folder/upper" "$folder/work" "$folder/new" "$folder/state"
    mount -t overlay overlay -o "lowerdir=$root,upperdir=$folder/upper,workdir=$folder/work" "$folder/new"
    cp "$(dirname "$0")/podman_service.sh" "$folder/new/"
    cd "$folder/new"
    mkdir -p "./$folder/state" .old
    mount --bind "$folder/state" "./$folder/state"
    mount -t proc proc proc
    for from in dev sys; do mount --rbind /$from $from; done
    # The engine asks these as its host does.
    cat /etc/resolv.conf > etc/resolv.conf
    cat /etc/hosts > etc/hosts
    # (A mere chroot is no root that runc could leave again.)
    pivot_root . .old
    umount -l /.old
    state=$folder/state
    if [ "$engine" = podman ]; then
        # Not the last process here: who is init has to stay until the others are gone.
        /podman_service.sh "$state/podman"
        exit
    fi
    # (With --bridge=none it would remove docker0, which is this machine's Docker's.)
    dockerd --bridge="$bridge" --iptables=false --ip6tables=false --ip-forward=false --data-root "$state/data" --exec-root "$state/exec" -p "$state/pid" \
        -H "unix://$state/sock" > "$state/log" 2>&1 < /dev/null &
    dockerd=$!
    waited=0
    until curl --silent --output /dev/null --unix-socket "$state/sock" http://docker/_ping; do
        waited=$((waited + 1))
        if [ $waited -gt 150 ] || ! kill -0 $dockerd 2> /dev/null; then
            cat "$state/log" >&2
            exit 1
        fi
        sleep 0.2
    done
    echo "unix://$state/sock"
    cat > /dev/null
    kill $dockerd
    wait $dockerd || :
    exit 0
fi

engine=$1 folder=$2 cache=$3
case $engine in docker | podman) ;; *) say "no such engine: $engine" && exit 2 ;; esac
mkdir -p "$folder" "$cache"
root=$cache/trixie-$(echo "$PACKAGES" | sha256sum | cut -c 1-12)
(
    flock 9
    [ -d "$root" ] || make_root "$root"
) 9> "$cache/trixie.lock" || exit 1

# A bridge that nobody else has; its address is a link's own, so that it is no route to anywhere.
bridge=ts-$$
[ "$engine" != docker ] || { ip link add "$bridge" type bridge && ip addr add 169.254.77.1/24 dev "$bridge" scope link; }
status=0
unshare --mount --propagation private --pid --fork --kill-child "$0" --inside "$engine" "$folder" "$root" "$bridge" || status=$?
[ "$engine" != docker ] || ip link del "$bridge"
rm -rf "$folder"
exit $status
