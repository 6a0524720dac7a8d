# What the other scripts ask of a package manager, by dnf 4 and dnf 5.
use_dnf() {
    if command -v dnf5 > /dev/null; then DNF=dnf5; else DNF=dnf; fi
    base_repositories="/etc/yum.repos.d /etc/distro.repos.d"
    private_dnf() {
        "$DNF" --assumeyes --setopt=reposdir="$T/repos" --setopt=cachedir="$T/cache" --setopt=logdir="$T/log" \
            --setopt=persistdir="$T/persist" --setopt=install_weak_deps=False --setopt=best=True --setopt=skip_if_unavailable=False "$@"
    }
    # Before 5.4.3 dnf 5 takes "--" for a word like others, so what would be an option is refused.
    plain() {
        for argument in "$@"; do
            case $argument in
            -*)
                echo "twostage: $argument begins as an option does" >&2
                exit 2
                ;;
            esac
        done
    }
    # dnf 5 ends no line by itself, dnf 4 each one, and the \n of a format stays there as it is.
    query() { private_dnf --quiet repoquery "$@" | sed 's/\\n$//'; }
    add() { plain "$@" && private_dnf install "$@"; }
    fetch() { plain "$@" && private_dnf --setopt=destdir="$T/out" install --downloadonly "$@"; }
    fetch_exactly() { plain "$@" && private_dnf download --destdir="$T/out" "$@"; }
    fetch_source() { plain "$1" && private_dnf download --source --destdir="$T/out" "$1"; }
    origins() {
        # shellcheck disable=SC2046 # names of packages have no blanks
        set -- $(cat "$T/chosen")
        plain "$@" && query --cacheonly --available --qf 'twostage: from %{repoid} %{name} %{evr}\n' "$@"
    }
    providers() { plain "$1" && query --cacheonly --whatprovides "$1" --qf '%{name}\n'; }
    # available "REPOSITORY..." NAME...: the names of those that are there, in these repositories; without a NAME all of them.
    available() {
        only=
        for id in $1; do only="$only --repo=$id"; done
        shift
        # shellcheck disable=SC2086 # names of repositories have no blanks
        plain "$@" && private_dnf --quiet repoquery --cacheonly --available $only --qf '%{name}\n' "$@" > "$T/found"
        sed 's/\\n$//' "$T/found"
    }
    refresh() { private_dnf makecache; }
    newer() { query --cacheonly --upgrades --latest-limit=1 --qf '%{repoid} %{name} %{evr}\n'; }
    security() { query --cacheonly --available --security --qf '%{name} %{evr}\n'; }
}
