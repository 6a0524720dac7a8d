#!/bin/sh
# Makes this machine ready: setup.sh [compiler] [engine] [tests] [long]
#
#   compiler  a C compiler, which cargo needs to link
#   engine    what runs containers, and mmdebstrap to make base images with (a project's own base.sh
#             needs no more). Where no engine answers, twostage is one itself: then nothing is
#             installed or started, unless this machine forbids user namespaces.
#             TWOSTAGE_ENGINE=docker or podman starts that one
#   tests     the real package managers and tools that judge us in the tests
#   long      what the tests need besides that take long
#
# Says first what it will install and start. Does nothing where nothing is missing. Without root it
# prints the commands instead.
set -eu
# An ordinary user has no sbin in the path, and dockerd is there.
PATH=$PATH:/usr/sbin:/sbin

packages=""
need() { # need PROGRAM PACKAGE...: the packages, unless the program is there
    program=$1
    shift
    command -v "$program" > /dev/null 2>&1 || add "$@"
}
add() { # add PACKAGE...
    for package in "$@"; do
        case " $packages " in
        *" $package "*) ;;
        *) packages="$packages $package" ;;
        esac
    done
}

answers() { # answers SOCKET
    [ -S "$1" ] && perl -MIO::Socket::UNIX -e 'exit !IO::Socket::UNIX->new(Peer => $ARGV[0])' "$1" 2> /dev/null
}

# The places are those of engine/src/docker/address.rs.
docker_socket=/var/run/docker.sock
podman_socket=/run/podman/podman.sock
case ${TWOSTAGE_ENGINE:-} in
podman)
    engine=podman
    socket=$podman_socket
    case ${CONTAINER_HOST:-} in
    unix://*) socket=${CONTAINER_HOST#unix://} ;;
    /*) socket=$CONTAINER_HOST ;;
    esac
    command="podman system service --time=0 unix://$socket"
    log=/var/log/podman.log
    ;;
docker | embedded | "")
    engine=docker
    socket=$docker_socket
    command=dockerd
    log=/var/log/dockerd.log
    ;;
*)
    echo "setup.sh: TWOSTAGE_ENGINE is '$TWOSTAGE_ENGINE'; write docker, podman or embedded" >&2
    exit 2
    ;;
esac

# What is elsewhere, over a network, is for twostage to find out.
docker_answers() {
    [ -n "${DOCKER_HOST:-}" ] || answers $docker_socket
}
podman_answers() {
    case ${CONTAINER_HOST:-} in
    "") answers $podman_socket || answers "${XDG_RUNTIME_DIR:-}/podman/podman.sock" ;;
    unix://*) answers "${CONTAINER_HOST#unix://}" ;;
    /*) answers "$CONTAINER_HOST" ;;
    esac
}
engine_answers() {
    case ${TWOSTAGE_ENGINE:-} in
    docker) docker_answers ;;
    podman) podman_answers ;;
    *) docker_answers || podman_answers ;;
    esac
}

# Whether twostage can run containers itself: engine/src/embedded/ says why where it can't.
namespaces() {
    command -v unshare > /dev/null && unshare --user --mount --pid --fork true 2> /dev/null
}

start_engine=false
fetch_lists=false
for what in "$@"; do
    case $what in
    compiler) need cc gcc libc6-dev ;;
    engine)
        need mmdebstrap mmdebstrap
        case ${TWOSTAGE_ENGINE:-} in
        embedded) continue ;;
        "") ! engine_answers && namespaces && continue ;;
        esac
        if ! engine_answers; then
            start_engine=true
            case $engine in
            docker) need dockerd docker.io iptables ;;
            podman) need podman podman ;;
            esac
        fi
        ;;
    tests)
        need docker docker.io
        need python3 python3
        need apt-ftparchive apt-utils
        need reprepro reprepro
        need aptly aptly
        need gpgv gpgv
        need gpg gpg
        need gpg-agent gpg-agent
        need dpkg-source dpkg-dev
        need xz xz-utils
        need bzip2 bzip2
        need zstd zstd
        need nsenter util-linux
        need setpriv util-linux
        need strace strace
        need prlimit util-linux
        need unshare util-linux
        need busybox busybox-static
        need bsdtar libarchive-tools
        need newuidmap uidmap
        need mount mount
        need dpkg-deb dpkg
        need rpm rpm
        need rpmbuild rpm
        need createrepo_c createrepo-c
        need dnf dnf
        need zypper zypper
        need ip iproute2
        need strace strace
        need pasta passt
        need slirp4netns slirp4netns
        need iptables iptables
        need nft nftables
        need git git
        need ssh-agent openssh-client
        need curl curl
        need skopeo skopeo
        need docker-registry docker-registry
        need podman podman
        # Podman's own choice, crun, refuses some kernels' control groups.
        need runc runc
        need chromium chromium
        need chromedriver chromium-driver
        # (Debian's python has the modules of Debian's packages, whichever other one comes first in the path.)
        /usr/bin/python3 -c 'import selenium' 2> /dev/null || add python3-selenium
        # The packages that tests compare are chosen from apt's lists.
        [ -n "$(apt-get indextargets 2> /dev/null)" ] || fetch_lists=true
        ;;
    long)
        need mkfs.ext4 e2fsprogs
        need mkfs.xfs xfsprogs
        need mkfs.btrfs btrfs-progs
        ;;
    *)
        echo "setup.sh: unknown word '$what'" >&2
        exit 2
        ;;
    esac
done

[ -n "$packages" ] || $start_engine || $fetch_lists || exit 0

if [ ! -e /etc/debian_version ] || ! command -v apt-get > /dev/null; then
    echo "setup: this is no Debian or Ubuntu machine; it needs:$packages${packages:+ }$($start_engine && echo "and a running engine ($engine)")" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    if $start_engine && [ $engine = docker ] && [ -S $socket ] && [ ! -w $socket ]; then
        echo "setup: a Docker engine is there, but $(id -un) may not use it. As root: usermod -aG docker $(id -un); then log in again" >&2
        exit 1
    fi
    echo "setup: not root, so nothing was changed. Run this as root first:" >&2
    ! $fetch_lists || echo "  apt-get update" >&2
    [ -z "$packages" ] || echo "  apt-get update && apt-get install --no-install-recommends$packages" >&2
    ! $start_engine || case $engine in
    docker) echo "  systemctl start docker      (or, without systemd: dockerd &)" >&2 ;;
    podman) echo "or, as yourself: $command &      (with CONTAINER_HOST=unix://SOCKET for a socket of your own)" >&2 ;;
    esac
    exit 1
fi

echo "setup: this machine lacks something that is needed, so this will"
[ -z "$packages" ] || echo "setup:   install with apt-get:$packages"
! $fetch_lists || echo "setup:   fetch apt's lists"
! $start_engine || echo "setup:   start the engine: $command (socket $socket, log $log)"
# Its package would start a registry on every address of this machine. The tests start their own, on loopback.
service=/etc/systemd/system/docker-registry.service
case " $packages " in
*" docker-registry "*)
    if [ -d /run/systemd/system ] && [ ! -e $service ] && [ ! -L $service ]; then
        echo "setup:   mask docker-registry.service, so that it is not started"
        ln -s /dev/null $service
    fi
    ;;
esac

if [ -n "$packages" ] || $fetch_lists; then
    export DEBIAN_FRONTEND=noninteractive
    said=$(mktemp)
    # shellcheck disable=SC2086 # the list is meant to be split
    if ! { apt-get update && { [ -z "$packages" ] || apt-get install -y --no-install-recommends $packages; }; } > "$said" 2>&1 < /dev/null; then
        tail -n 20 "$said" >&2
        echo "setup: apt-get could not install$packages" >&2
        rm -f "$said"
        exit 1
    fi
    rm -f "$said"
fi

if $start_engine && ! engine_answers; then
    if [ $engine = podman ]; then
        mkdir -p "$(dirname "$socket")"
        # Where CONTAINER_HOST is set, podman takes itself for a client.
        # shellcheck disable=SC2086 # the words of a command
        env -u CONTAINER_HOST setsid $command > $log 2>&1 < /dev/null &
    elif [ -d /run/systemd/system ]; then
        systemctl start docker
    else
        # A number that a killed engine left behind may be another program's by now, and then the
        # engine takes that program for itself and does not start.
        for left in dockerd:/var/run/docker.pid containerd:/var/run/docker/containerd/containerd.pid; do
            file=${left#*:}
            if [ -e "$file" ] && [ "$(cat "/proc/$(cat "$file")/comm" 2> /dev/null)" != "${left%%:*}" ]; then rm -f "$file"; fi
        done
        setsid dockerd > $log 2>&1 < /dev/null &
    fi
    waited=0
    until engine_answers; do
        waited=$((waited + 1))
        if [ $waited -gt 60 ]; then
            tail -n 20 $log >&2 || :
            echo "setup: $engine does not answer on $socket" >&2
            exit 1
        fi
        sleep 0.5
    done
fi
echo "setup: ready"
