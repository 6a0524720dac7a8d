# Builds one component from /build/src (a tree with a spec file) or /build/source (a source rpm).
# VERSION_MARK, VERSION_KEY, SOURCE_DATE_EPOCH, RPM_BUILD_OPTIONS and BUILD_KEY come in; packages and the
# source package go to /build/out.
export HOME=/build/home
mkdir -p /build/out /build/home /build/rpm/SOURCES /build/rpm/SPECS
# The release ends in what a rebuild changes; debug symbols that were named or identified by it would
# differ although nothing else does.
build() {
    with_environment rpmbuild --undefine _unique_build_ids --undefine _unique_debug_names --undefine _unique_debug_srcs \
        --define '_topdir /build/rpm' --define '_buildhost twostage.invalid' --define 'use_source_date_epoch_as_buildtime 1' \
        --define 'clamp_mtime_to_source_date_epoch 1' --define 'source_date_epoch_from_changelog 0' \
        --define '_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' "$@"
}
if [ -d /build/source ]; then
    rpm --define '_topdir /build/rpm' -i --nosignature /build/source/*.src.rpm
    spec=$(echo /build/rpm/SPECS/*.spec)
    # The distribution's own source has the date of its changelog, unless a patch is newer.
    changed=$(rpm -qp --nosignature --qf '[%{CHANGELOGTIME}\n]' /build/source/*.src.rpm | head -n 1)
    if [ -z "$changed" ]; then changed=$(rpm -qp --nosignature --qf '%{BUILDTIME}' /build/source/*.src.rpm); fi
    if [ "$changed" -gt "$SOURCE_DATE_EPOCH" ]; then SOURCE_DATE_EPOCH=$changed; fi
    apply_patches /build/packaging 'the spec file' --directory=/build/rpm/SPECS
    number=90000
    for patch in /build/patches/*; do
        [ -e "$patch" ] || continue
        grep -qE '^[[:space:]]*%auto(setup|patch)' "$spec" \
            || { echo "twostage: ${patch##*/} cannot be applied: the spec file uses neither %autosetup nor %autopatch" >&2; exit 1; }
        cp "$patch" "/build/rpm/SOURCES/twostage-${patch##*/}"
        sed -i "0,/^%description/s//Patch$number: twostage-${patch##*/}\n\n%description/" "$spec"
        number=$((number + 1))
    done
else
    cd /build/src
    apply_patches /build/patches
    spec=/build/rpm/SPECS/$(ls -- *.spec)
    mv -- *.spec "$spec"
    # Sources that lie beside the spec file are taken as they are; the first one that does not is
    # the tree itself, under the name that the spec file gives it.
    find . -mindepth 1 -maxdepth 1 -type f -exec cp -a {} /build/rpm/SOURCES \;
    name=$(rpmspec -q --srpm --qf '%{NAME}-%{VERSION}' -- "$spec")
    # tar and zip write a date before 1980 for none: then the changelog has one.
    if [ "$SOURCE_DATE_EPOCH" -lt 315532800 ]; then
        changed=$(rpmspec -q --srpm --qf '[%{CHANGELOGTIME}\n]' -- "$spec" | head -n 1)
        case $changed in "" | *[!0-9]*) SOURCE_DATE_EPOCH=315532800 ;; *) SOURCE_DATE_EPOCH=$changed ;; esac
    fi
    rpmspec -P -- "$spec" | sed -n 's/^[Ss]ource[0-9]*:[[:space:]]*//p' | while read -r source; do
        file=/build/rpm/SOURCES/${source##*/}
        case $file in
        *.tar.gz | *.tgz) compress='gzip -n' ;;
        *.tar.xz) compress='xz' ;;
        *.tar.bz2) compress='bzip2' ;;
        *.tar.zst) compress='zstd -q' ;;
        *) continue ;;
        esac
        if [ -e "$file" ]; then continue; fi
        tar --create --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --transform="s,^\.,$name," . | $compress > "$file"
        break
    done
fi
export SOURCE_DATE_EPOCH
touch -d "@$SOURCE_DATE_EPOCH" /build/rpm/SOURCES/*
suffix=$VERSION_MARK$(date --utc --date="@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$VERSION_KEY
sed -i "s/^\(Release:[[:space:]]*[^[:space:]]*\)/\1$suffix/I" "$spec"
if [ -e /build/needs ]; then
    echo 'twostage: phase dependencies'
    HOME=$T with_build_requires "$spec" add
fi
cd /build
with_environment sh -c 'export -p' > /build/environment
if [ -n "${ONLY_PREPARE:-}" ]; then exit 0; fi
echo 'twostage: phase build'
use_ccache
set -f
# shellcheck disable=SC2086 # options are words, and no patterns
build -ba $RPM_BUILD_OPTIONS -- "$spec"
find /build/rpm/RPMS /build/rpm/SRPMS -name '*.rpm' -exec mv {} /build/out \;
