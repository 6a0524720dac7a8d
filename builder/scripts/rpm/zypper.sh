# The same by zypper. What it tells programs is XML, one package or advisory a line.
use_zypper() {
    base_repositories=/etc/zypp/repos.d
    private_zypper() {
        ZYPP_LOGFILE="$T/log/zypper" zypper --non-interactive --gpg-auto-import-keys --reposd-dir "$T/repos" --cache-dir "$T/cache" \
            --solv-cache-dir "$T/cache/solv" --raw-cache-dir "$T/cache/raw" --pkg-cache-dir "$T/cache/packages" "$@"
    }
    query() { private_zypper --quiet --xmlout "$@" | sed 's/></>\n</g'; }
    # 102: all is done, and a machine that runs should be started again.
    add() { private_zypper install --no-recommends -- "$@" || [ $? = 102 ]; }
    # Takes what was downloaded out of the cache, whose folders are the repositories.
    take_from_cache() {
        for repository in "$T/cache/packages"/*; do
            if [ ! -d "$repository" ]; then continue; fi
            find "$repository" -name '*.rpm' -exec rpm -qp --nosignature --qf "twostage: from ${repository##*/} %{NAME} %{EVR}\n" {} + >> "$T/origins"
            find "$repository" -name '*.rpm' -exec mv {} "$T/out" \;
        done
    }
    fetch() {
        private_zypper install --no-recommends --download-only -- "$@"
        take_from_cache
    }
    fetch_exactly() {
        private_zypper download -- "$@"
        take_from_cache
    }
    fetch_source() {
        private_zypper source-install --download-only --no-build-deps -- "$1"
        take_from_cache
    }
    origins() { sort -u "$T/origins"; }
    providers() { query search --match-exact --provides -- "$1" | sed -n 's/^<solvable .*name="\([^"]*\)".*/\1/p'; }
    available() {
        only=
        for id in $1; do only="$only --repo=$id"; done
        shift
        exactly=
        if [ $# -gt 0 ]; then exactly=--match-exact; fi
        # shellcheck disable=SC2086 # names of repositories have no blanks
        # 104: nothing was found.
        private_zypper --quiet --xmlout search $exactly --type package $only -- "$@" > "$T/found" || [ $? = 104 ]
        sed 's/></>\n</g' "$T/found" | sed -n 's/^<solvable .*name="\([^"]*\)".*/\1/p'
    }
    refresh() { private_zypper refresh; }
    newer() {
        query list-updates | sed -n -e '/^<update /h' -e '/^<source /{
            G
            s/.* alias="\([^"]*\)".*\n<update kind="package" name="\([^"]*\)" edition="\([^"]*\)".*/\1 \2 \3/p
        }'
    }
    # An advisory conflicts with the packages that it mends, below the version that does.
    security() {
        advisories=$(query list-patches --all --category security | sed -n 's/^<update .*kind="patch" name="\([^"]*\)".*/\1/p')
        if [ -z "$advisories" ]; then return; fi
        # shellcheck disable=SC2086 # names of advisories have no blanks
        query patch-info -- $advisories | sed -n 's/^\(Conflicts *:\)\{0,1\} *\([^ ]*\) &lt; \([^ ]*\)$/\2 \3/p' |
            sed 's/\.\(noarch\|x86_64\|i[3-6]86\|aarch64\|armv7hl\|ppc64le\|riscv64\|s390x\) / /'
    }
}
