# Builds one component from /build/src (a tree with debian/) or /build/source (a .dsc and its
# files). VERSION_MARK, VERSION_MARK_UBUNTU, VERSION_MARK_DERIVED, VERSION_KEY, SOURCE_DATE_EPOCH, DEB_BUILD_OPTIONS,
# DEB_BUILD_PROFILES, BUILD_KEY and BUILD_AGAIN come in; packages and the source package go to /build/out.
mkdir -p /build/out
if [ -d /build/source ]; then dpkg-source --no-check --extract /build/source/*.dsc /build/src; cp /build/source/*.orig*.tar.* /build 2>/dev/null || :; fi
cd /build/src
# What a patch changes below debian/ is changed before dpkg-source looks at it.
apply_patches /build/packaging debian/
format=$(cat debian/source/format 2>/dev/null || echo 1.0)
for patch in /build/patches/*; do
    [ -e "$patch" ] || continue
    echo "twostage: applying ${patch##*/}"
    case $format in
    *quilt*)
        mkdir -p debian/patches
        cp "$patch" "debian/patches/twostage-${patch##*/}"
        echo "twostage-${patch##*/}" >> debian/patches/series
        ;;
    *) patch --strip=1 --batch --forward --input="$patch" ;;
    esac
done
install_needs /build/src
# The distribution's own source has the date of its changelog, unless a patch is newer. So has a tree whose files
# have no date: tar and zip write one before 1980 for none.
changed=$(dpkg-parsechangelog -S Timestamp)
if [ "$SOURCE_DATE_EPOCH" -lt 315532800 ] || { [ -d /build/source ] && [ "$changed" -gt "$SOURCE_DATE_EPOCH" ]; }; then
    SOURCE_DATE_EPOCH=$changed
fi
export SOURCE_DATE_EPOCH
source=$(dpkg-parsechangelog -S Source)
version=$(dpkg-parsechangelog -S Version)
{
    changelog_entry "$source" "$version" "$(dpkg-parsechangelog -S Distribution)"
    echo
    cat debian/changelog
} > /build/changelog
cat /build/changelog > debian/changelog
upstream=${version#*:}
upstream=${upstream%-*}
# A tree of the team's has no upstream tarball beside it: this one is made of the tree itself.
case $format in
*quilt*)
    set -- ../"${source}_$upstream".orig.tar.*
    if [ ! -e "$1" ]; then
        tar --create --xz --file="../${source}_$upstream.orig.tar.xz" --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
            --owner=0 --group=0 --numeric-owner --exclude=./debian --transform="s,^\.,$source-$upstream," .
    fi
    ;;
esac
export HOME=/build/home LC_ALL=C.UTF-8
unset APT_CONFIG
with_environment sh -c 'export -p' > /build/environment
if [ -n "${ONLY_PREPARE:-}" ]; then exit 0; fi
echo 'twostage: phase build'
use_ccache
if [ -n "${BUILD_AGAIN:-}" ]; then
    # (The tree keeps its name, src, which its source package has inside.)
    mkdir /build/again
    for file in /build/src /build/*.orig*.tar.*; do if [ -e "$file" ]; then mv "$file" /build/again; fi; done
    cd /build/again/src
fi
if [ -d /build/source ] && [ ! -e /build/patches ] && [ ! -e /build/packaging ]; then
    # The distribution's own source, as it is: it is published as it is, and each package says that it comes from
    # it, as Debian's binary rebuilds do (deb-src-control(5), "Source: name (version)").
    mkdir /build/bin
    printf '#!/bin/sh\nexec /usr/bin/dpkg-gencontrol "-DSource=%s (%s)" "$@"\n' "$source" "$version" > /build/bin/dpkg-gencontrol
    chmod 755 /build/bin/dpkg-gencontrol
    export PATH="/build/bin:$PATH"
    with_environment dpkg-buildpackage --unsigned-changes --build=binary
    cp /build/source/* /build/out
else
    with_environment dpkg-buildpackage --unsigned-source --unsigned-changes --build=full
fi
cd ..
for file in *.deb *.ddeb *.udeb *.dsc *.tar.* *.diff.gz; do
    if [ -e "$file" ] && [ ! -e "/build/out/$file" ]; then mv "$file" /build/out; fi
done
