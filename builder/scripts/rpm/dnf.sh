# What the other scripts ask of a package manager, by dnf 4 and dnf 5.
use_dnf() {
    if command -v dnf5 > /dev/null; then DNF=dnf5; else DNF=dnf; fi
    base_repositories="/etc/yum.repos.d /etc/distro.repos.d"
    private_dnf() {
        "$DNF" --assumeyes --setopt=reposdir="$T/repos" --setopt=cachedir="$T/cache" --setopt=logdir="$T/log" \
            --setopt=persistdir="$T/persist" --setopt=install_weak_deps=False --setopt=best=True --setopt=skip_if_unavailable=False "$@"
    }
    # dnf 5 ends no line by itself, dnf 4 each one, and the \n of a format stays there as it is.
    query() { private_dnf --quiet repoquery "$@" | sed 's/\\n$//'; }
    add() { private_dnf install "$@"; }
    fetch() { private_dnf --setopt=destdir="$T/out" install --downloadonly "$@"; }
    fetch_exactly() { private_dnf download --destdir="$T/out" "$@"; }
    fetch_source() { private_dnf download --source --destdir="$T/out" "$1"; }
    origins() {
        # shellcheck disable=SC2046 # names of packages have no blanks
        query --cacheonly --available --qf 'twostage: from %{repoid} %{name} %{evr}\n' $(cat "$T/chosen")
    }
    providers() { query --cacheonly --whatprovides "$1" --qf '%{name}\n'; }
    # available "REPOSITORY..." NAME...: the names of those that are there, in these repositories.
    available() {
        only=
        for id in $1; do only="$only --repo=$id"; done
        shift
        # shellcheck disable=SC2086 # names of repositories have no blanks
        query --cacheonly --available $only --qf '%{name}\n' -- "$@"
    }
    refresh() { private_dnf makecache; }
    newer() { query --cacheonly --upgrades --latest-limit=1 --qf '%{repoid} %{name} %{evr}\n'; }
    security() { query --cacheonly --available --security --qf '%{name} %{evr}\n'; }
}
