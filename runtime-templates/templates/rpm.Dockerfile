{{intro}}FROM {{from}}
{{become_root}}RUN set -eu; umask 022; T=/var/cache/twostage; \
    export LC_ALL=C.UTF-8 TZ=UTC HOME="$T" SOURCE_DATE_EPOCH={{date}}; \
{{begin}}# A private dnf or zypper: the snapshot is its only source, and all that it writes is below
# $T. The key too: rpm's database would keep its bytes even after it is removed. (Scripts of packages
# get no mounts of their own: engines do not allow it.)
    DB=$(rpm --eval %_dbpath); \
    printf '%s\n' '%_keyring fs' "%_keyringpath $T/keys" '%__transaction_unshare %{nil}' '%_excludedocs 1' {{macros}}> "$T/.rpmmacros"; \
    printf '%s\n' '[twostage]' 'name=twostage' "baseurl={{base_url}}/@{{snapshot}}" "gpgkey={{base_url}}/key.asc{{keys}}" "proxy=$http_proxy" \
        enabled=1 gpgcheck=1 repo_gpgcheck=1 metadata_expire=never > "$T/repos/twostage.repo"; \
    for MANAGER in zypper dnf5 dnf none; do if command -v $MANAGER > /dev/null; then break; fi; done; \
# (microdnf can neither be kept from what the base says of repositories, nor download and wait.)
    if [ $MANAGER = none ]; then fail "this base has neither dnf nor zypper; microdnf is not supported, as it installs what nobody has checked"; fi; \
# (dnf 5 asks for keys, when it installs, past the repository's own proxy.)
    PROXY=$http_proxy; \
    take() { \
        if [ $MANAGER = zypper ]; then \
            ZYPP_LOGFILE="$T/log/zypper" zypper --non-interactive --gpg-auto-import-keys --reposd-dir "$T/repos" \
                --cache-dir "$T/cache" --solv-cache-dir "$T/cache/solv" --raw-cache-dir "$T/cache/raw" --pkg-cache-dir "$T/cache/packages" \
                install --no-recommends "$@" -- {{zypper_packages}} || [ $? = 102 ]; \
        else \
            $MANAGER --assumeyes --setopt=reposdir="$T/repos" --setopt=cachedir="$T/cache" --setopt=logdir="$T/log" --setopt=persistdir="$T/persist" \
                --setopt=proxy="$PROXY" --setopt=install_weak_deps=False --setopt=best=True --setopt=skip_if_unavailable=False --setopt=keepcache=True \
                --setopt=tsflags=nodocs install "$@" {{packages}}; \
        fi; \
    }; \
    option=--downloadonly; if [ $MANAGER = zypper ]; then option=--download-only; fi; \
    take $option; \
# Signatures are checked. What was chosen must also be, header by header, what the project locked:
# a header has the digest of its payload.
    find "$T/cache" -name '*.rpm' -exec rpm -qp --nosignature --qf '%{SHA256HEADER}  %{NAME}-%{EVR}.%{ARCH}\n' {} + | LC_ALL=C sort -k 2 > "$T/chosen"; \
    [ "$(sha256sum < "$T/chosen")" = "{{closure}}  -" ] \
        || { cat "$T/chosen" >&2; fail "these are not the {{count}} packages that were locked for {{image}}"; }; \
    unset http_proxy; \
    take; \
    if [ -s "$DB/rpmdb.sqlite-wal" ]; then fail "rpm left its database open: $DB/rpmdb.sqlite-wal is not empty"; fi; \
{{finish}}{{metadata}}
