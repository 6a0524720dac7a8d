# Builds one component from /build/src (a tree with debian/) or /build/source (a .dsc and its
# files). VERSION_SUFFIX, SOURCE_DATE_EPOCH, DEB_BUILD_OPTIONS and BUILD_KEY come in; packages and the
# source package go to /build/out.
mkdir -p /build/out
if [ -d /build/source ]; then dpkg-source --no-check --extract /build/source/*.dsc /build/src; cp /build/source/*.orig*.tar.* /build 2>/dev/null || :; fi
cd /build/src
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
if [ -e /build/needs ]; then
    only_snapshot
    apt-get update
    apt-get --no-install-recommends build-dep /build/src
fi
# The distribution's own source has no date but that of its changelog.
if [ "$SOURCE_DATE_EPOCH" = 0 ]; then SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -S Timestamp); fi
source=$(dpkg-parsechangelog -S Source)
version=$(dpkg-parsechangelog -S Version)
{
    echo "$source ($version$VERSION_SUFFIX) $(dpkg-parsechangelog -S Distribution); urgency=medium"
    printf '\n  * Built by twostage from inputs %s.\n\n' "$BUILD_KEY"
    echo " -- twostage <builder@twostage.invalid>  $(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")"
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
dpkg-buildpackage --unsigned-source --unsigned-changes --build=full
cd /build
for file in *.deb *.ddeb *.udeb *.dsc *.tar.* *.diff.gz; do
    if [ -e "$file" ]; then mv "$file" /build/out; fi
done
