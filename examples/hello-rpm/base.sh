#!/bin/sh
# Makes a stand-in for an rpm distribution, for machines that reach no rpm distribution's mirror.
#
#   base.sh [--zypper | --dnf5] [FOLDER]
#
# Writes two root file systems into FOLDER (default: the script's own), unless they are there:
#
#   base.tar       what images start from: a shell, rpm and dnf
#   builder.tar    the same, and what builds packages: gcc, make, rpmbuild
#
# With --zypper they have zypper instead of dnf, and are called zypper-base.tar and zypper-builder.tar.
# With --dnf5 they have dnf 5 and rpm 6, and are called dnf5-base.tar and dnf5-builder.tar; only Debian's
# testing release has these.
#
# The programs are Debian's, from the mirror that this host's apt uses; to package managers it is
# an rpm distribution nevertheless: dpkg and apt are gone, the rpm database is where Fedora and
# openSUSE have it, every file belongs to a package in it, libraries go to /usr/lib64, and a mirror
# with a few more packages is at /usr/share/distribution. A project that has a real distribution
# at hand needs none of this: it names an image of that.
#
# The same mirror gives the same bytes for a day (or for a given SOURCE_DATE_EPOCH). MIRROR="deb
# http://... bookworm main" (forky for --dnf5) is used instead of the host's apt sources. Needs root and mmdebstrap.
set -eu

# What is mounted here ends with the last of these processes, however that ends.
if [ "$(id -u)" = 0 ] && [ -z "${TWOSTAGE_BASE_APART:-}" ] && unshare --mount --propagation private -- true 2> /dev/null; then
    TWOSTAGE_BASE_APART=1 exec unshare --mount --propagation private -- "$0" "$@"
fi

manager=dnf suite=bookworm pockets='|-updates|-security' prefix=
case ${1:-} in
--zypper) manager=zypper ;;
--dnf5) manager=dnf5 suite=forky pockets= ;;
esac
if [ $manager != dnf ]; then
    prefix=$manager-
    shift
fi
cd "${1:-$(dirname "$0")}"
out=$PWD
if [ -e "${prefix}base.tar" ] && [ -e "${prefix}builder.tar" ]; then exit 0; fi

say() { echo "base.sh: $*"; }
fail() {
    echo "base.sh: $*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "making a root file system needs root: sudo $0"
command -v mmdebstrap > /dev/null || fail "there is no mmdebstrap; on Debian or Ubuntu: apt-get install mmdebstrap"

now=$(date +%s)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$((now - now % 86400))}
export SOURCE_DATE_EPOCH LC_ALL=C
umask 022

# Not below the project: its disk may forbid device nodes.
WORK=$(mktemp -d "${TMPDIR:-/tmp}/twostage-base.XXXXXX")
export WORK
chmod 755 "$WORK"
mounted=
clean() {
    [ -z "$mounted" ] || umount "$mounted"
    rm -rf "$WORK"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM

# Runs a command; what it says is shown only if it fails.
quietly() {
    "$@" > "$WORK/log" 2>&1 < /dev/null || {
        tail -n 30 "$WORK/log" >&2
        fail "failed: $1"
    }
}

# The host's own apt sources, as twostage's `bootstrap` takes them.
sources() {
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    distribution=$(. /etc/os-release && echo "$ID")
    [ "$distribution" = debian ] || fail 'this host is no Debian: MIRROR="deb http://... '"$suite"' main" names a mirror of it'
    mkdir -p "$WORK/lists/partial"
    targets() { apt-get "$@" indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages'; }
    # mmdebstrap knows by itself which key signs a release if it is not newer than the host. A copy of
    # a testing release may be older than its makers vouch for: nothing but tests is made of it.
    options=
    [ $suite = bookworm ] || options="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no] "
    private="-oDir::State::lists=$WORK/lists -oDir::Cache=$WORK/lists/cache -oAPT::Sandbox::User="
    # shellcheck disable=SC2086 # the options are meant to be split
    if [ -n "$(targets)" ]; then targets; else apt-get $private update > /dev/null && targets $private; fi |
        awk -v codename="$codename" -v options="$options" -v suite=$suite -v pockets="^($pockets)\$" 'index($2, codename) == 1 {
            pocket = substr($2, length(codename) + 1)
            if (pocket ~ pockets) print "deb " options $1 " " suite pocket " " $3
        }' | sort -u
}

MIRROR=${MIRROR:-$(sources)}
[ -n "$MIRROR" ] || fail 'apt names no mirror of this release: MIRROR="deb http://... '"$suite"' main" names one'

# What each root has, beyond Debian's smallest; and the packages that the stand-in's mirror has.
case $manager in
dnf)
    packages=dnf,dnf-plugins-core,gpg,gpgconf
    provides="dnf, dnf-plugins-core, dnf-command(builddep), dnf-command(config-manager), dnf-command(download), dnf-command(repoquery)"
    ;;
dnf5)
    packages=dnf5
    provides=dnf5-plugins
    ;;
zypper)
    packages=zypper
    provides=zypper
    ;;
esac
BUILD_PACKAGES="gcc libc6-dev make patch pkgconf createrepo-c elfutils cpio file xz-utils bzip2 unzip"
MIRROR_PACKAGES="libinih1 libinih-dev libinireader0 libonig5 libjq1 jq libcjson1 libcjson-dev"
export BUILD_PACKAGES MIRROR_PACKAGES

say "fetching and unpacking Debian's packages"
mkdir "$WORK/debs"
echo "$MIRROR" > "$WORK/sources.list"
# shellcheck disable=SC2016 # the hooks' shell expands these
quietly mmdebstrap --quiet --variant=minbase --format=directory --include="rpm,$packages" \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='cp -ax "$1" "$WORK/runtime"' \
    --customize-hook='APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --yes -oDPkg::Chroot-Directory="$1" install $BUILD_PACKAGES' \
    --customize-hook='cd "$WORK/debs" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -oAPT::Sandbox::User= download $MIRROR_PACKAGES' \
    $suite "$WORK/builder" "$WORK/sources.list"

# Takes out of a root what is Debian's way of managing packages, and what belongs to this host.
strip_debian() { # strip_debian ROOT PACKAGE...
    root=$1
    shift
    (
        cd "$root"
        # Files first, then the folders that this leaves empty, the deepest first.
        for package in "$@"; do cat "var/lib/dpkg/info/$package.list" "var/lib/dpkg/info/$package:"*.list 2> /dev/null || :; done |
            sort -r | while read -r path; do
            # (/lib and /sbin are links to folders, which packages own as folders.)
            if [ ! -d ".$path" ]; then rm -f ".$path"; elif [ ! -L ".$path" ]; then rmdir ".$path" 2> /dev/null || :; fi
        done
    )
    (
        cd "$root"
        rm -rf var/lib/dpkg var/lib/apt var/cache/* var/log/* var/lib/systemd var/backups etc/apt etc/dpkg etc/debian_version usr/lib/dpkg usr/lib/apt \
            usr/share/dpkg usr/share/man usr/share/doc usr/share/info usr/share/locale usr/share/lintian usr/share/bug usr/share/debconf usr/share/keyrings \
            usr/share/doc-base usr/share/common-licenses usr/share/base-files etc/rpm etc/cron* etc/logrotate.d etc/init.d etc/rc?.d root/.rpmdb var/lib/rpm \
            usr/sbin/policy-rc.d usr/sbin/start-stop-daemon* \
            etc/hostname etc/resolv.conf etc/passwd- etc/group- etc/shadow- etc/gshadow- tmp/* run/*
        find dev -mindepth 1 -delete
        mkdir -p var/cache/ldconfig etc/rpm usr/lib64 usr/share/distribution usr/lib/sysimage/rpm
        chmod 700 var/cache/ldconfig
        : > etc/machine-id
        sed -i '/^_apt:/d' etc/passwd etc/group etc/shadow etc/gshadow
        # What no distribution's dnf has on unless it is asked for.
        for plugin in leaves local post-transaction-actions show-leaves versionlock; do
            rm -rf etc/dnf/plugins/$plugin* etc/dnf/libdnf5-plugins/$plugin* usr/lib/python3/dist-packages/dnf-plugins/*"$(echo $plugin | tr - _)"*
            rm -f usr/lib/python3/dist-packages/dnf-plugins/__pycache__/*"$(echo $plugin | tr - _)"*
        done
    )
}

# What makes a root an rpm distribution: its name, rpm's settings, where libraries are, its mirror.
make_distribution() { # make_distribution ROOT
    like=fedora repos=etc/yum.repos.d
    [ $manager != zypper ] || like='suse opensuse' repos=etc/zypp/repos.d
    rm -f "$1/etc/os-release" "$1/usr/lib/os-release"
    cat > "$1/usr/lib/os-release" <<-END
	NAME="Stand-in"
	PRETTY_NAME="Stand-in 12 (rpm packages over Debian's programs)"
	ID=standin
	ID_LIKE="$like"
	VERSION_ID=12
	END
    ln -s ../usr/lib/os-release "$1/etc/os-release"
    echo "$PRETTY" > "$1/etc/issue"
    echo "$PRETTY" > "$1/etc/issue.net"
    : > "$1/etc/motd"
    # The old place, for who looks there: zypper makes it where it is missing.
    ln -s ../../usr/lib/sysimage/rpm "$1/var/lib/rpm"
    echo /usr/lib64 > "$1/etc/ld.so.conf.d/lib64.conf"
    # As redhat-rpm-config has it, where rpm itself has another default.
    cat > "$1/etc/rpm/macros" <<-'END'
	%_dbpath /usr/lib/sysimage/rpm
	%_db_backend sqlite
	%_vendor standin
	%_binary_payload w19.zstdio
	%_source_payload w19.zstdio
	%_enable_debug_packages 1
	%_debugsource_packages 1
	%_missing_build_ids_terminate_build 1
	END
    # rpm 6 does this by itself.
    [ $manager = dnf5 ] || cat >> "$1/etc/rpm/macros" <<-'END'
	%install %{?_enable_debug_packages:%{?buildsubdir:%{debug_package}}}\
	%%install\
	%{nil}
	END
    mkdir -p "$1/$repos"
    rm -f "$1/$repos"/*
    cat > "$1/$repos/distribution.repo" <<-'END'
	[distribution]
	name=Stand-in
	baseurl=file:///usr/share/distribution
	enabled=1
	gpgcheck=0
	END
}

PRETTY="Stand-in 12"
say "turning them into an rpm distribution"
# Debian's package management, and what only it needs.
own="dpkg apt debian-archive-keyring libapt-pkg6.0 libapt-pkg7.0 debconf adduser base-passwd init-system-helpers"
perl=$(chroot "$WORK/builder" perl -e 'printf "%d.%d", $] =~ /(.)\.(...)/')
# shellcheck disable=SC2086 # the list is meant to be split
{
    strip_debian "$WORK/runtime" $own perl perl-base "perl-modules-$perl" "libperl$perl" debugedit
    strip_debian "$WORK/builder" $own
}
rm "$WORK/runtime/usr/bin/rpmbuild"
# A builder of C programs needs no link-time optimiser and no sanitizers, which are a fifth of it.
rm -f "$WORK"/builder/usr/bin/*lto-dump* "$WORK"/builder/usr/lib/gcc/*/*/lto1 "$WORK"/builder/usr/lib/*/lib[alt]san.so* \
    "$WORK"/builder/usr/lib/*/libubsan.so* "$WORK"/builder/usr/lib/*/libhwasan.so* "$WORK"/builder/usr/lib/gcc/*/*/lib*san*
for root in runtime builder; do make_distribution "$WORK/$root"; done

# rpm of the builder, in the builder; both roots are at /mnt, read-only, while they are packed.
rpmbuild() { # rpmbuild SPEC OPTION...
    spec=$1
    shift
    cp "$spec" "$WORK/builder/tmp/rpm/"
    quietly chroot "$WORK/builder" env HOME=/tmp/rpm /usr/bin/rpmbuild -bb --nodeps --noclean \
        --define '_topdir /tmp/rpm' --define '_buildhost standin' --define 'use_source_date_epoch_as_buildtime 1' \
        --define 'clamp_mtime_to_source_date_epoch 1' --define '__os_install_post %{nil}' --define '__check_files %{nil}' \
        --define 'debug_package %{nil}' "$@" "/tmp/rpm/$(basename "$spec")"
}

# A package of the stand-in's mirror from a Debian package's files.
mirror_package() { # mirror_package NAME SUMMARY REQUIRES DEB...
    name=$1 summary=$2 requires=$3
    shift 3
    files=$WORK/builder/tmp/rpm/files/$name
    mkdir -p "$files"
    for deb in "$@"; do dpkg-deb -x "$WORK/debs/$deb"_*.deb "$files"; done
    version=$(dpkg-deb -f "$WORK/debs/$1"_*.deb Version)
    version=${version#*:}
    release=$(echo "${version##*-}" | tr -c 'A-Za-z0-9.+~\n' .)
    rm -rf "$files/usr/share/doc" "$files/usr/share/man" "$files/usr/share/lintian"
    libraries=$files/usr/lib/x86_64-linux-gnu
    if [ -d "$libraries" ]; then
        mv "$libraries" "$files/usr/lib64"
        rmdir "$files/usr/lib" 2> /dev/null || :
        find "$files/usr/lib64" -name '*.pc' -exec sed -i 's|lib/x86_64-linux-gnu|lib64|g' {} +
    fi
    {
        printf 'Name: %s\nVersion: %s\nRelease: %s\nSummary: %s\nLicense: as in Debian\n' "$name" "${version%-*}" "$release" "$summary"
        [ -z "$requires" ] || echo "Requires: $requires = %{version}-%{release}"
        printf '%%description\nRepackaged from Debian %s.\n%%clean\nexit 0\n%%files\n' "$1"
        (cd "$files" && find . \( -type f -o -type l \) -printf '"/%P"\n' | sort)
    } > "$WORK/$name.spec"
    rpmbuild "$WORK/$name.spec" --buildroot "/tmp/rpm/files/$name"
}

say "building the packages of its mirror"
mkdir -p "$WORK/builder/tmp/rpm"
mirror_package inih "Reads INI files" "" libinih1
mirror_package inih-devel "Reads INI files, for development" inih libinih-dev
mirror_package oniguruma "Regular expressions" "" libonig5
mirror_package jq "Works on JSON, command" "" jq libjq1
mirror_package cjson "Reads and writes JSON" "" libcjson1
mirror_package cjson-devel "Reads and writes JSON, for development" cjson libcjson-dev
find "$WORK/builder/tmp/rpm/RPMS" -name '*.rpm' -exec mv {} "$WORK/builder/usr/share/distribution/" \;
find "$WORK/builder/usr/share/distribution" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
quietly chroot "$WORK/builder" createrepo_c --no-database --revision "$SOURCE_DATE_EPOCH" --set-timestamp-to-revision /usr/share/distribution
cp -a "$WORK/builder/usr/share/distribution" "$WORK/runtime/usr/share/"

# What a root's files are: kind, owner, group and path of each. Without what no package owns in a
# real distribution either.
list_files() { # list_files ROOT
    chroot "$1" find / -xdev -mindepth 1 \
        \( -path /proc/\* -o -path /sys/\* -o -path /dev/\* -o -path /run/\* -o -path /tmp/\* -o -path /mnt/\* -o -path /usr/lib/sysimage/\* \
        -o -path /etc/ld.so.cache -o -path /var/cache/ldconfig/\* \) -prune \
        -o -type d -printf 'dir %u %g %p\n' -o -path '/etc/*' -type f -printf 'config %u %g %p\n' -o -printf 'file %u %g %p\n' | sort
}

# The same as lines of %files.
# (Users come and go, so no distribution wants these files verified.)
as_files() {
    sed -E 's/%/%%/g; s/^([a-z]*) ([^ ]*) ([^ ]*) (.*)/%attr(-, \2, \3) %\1 "\4"/; s/\) %file /) /; s/\) %config /) %config(noreplace) /
        s/^.* "\/etc\/(passwd|group|shadow|gshadow|subuid|subgid)"$/%verify(not md5 size mtime) &/'
}

# Registers files of a root as one package, whose provides rpm itself finds in them.
register() { # register NAME FILES_FROM ROOT...
    name=$1 from=$2
    shift 2
    mounted=$WORK/builder/mnt
    mount --bind -o ro "$WORK/$from" "$mounted"
    mount -o remount,ro,bind "$mounted"
    rpmbuild "$WORK/$name.spec" --buildroot /mnt --define '_build_id_links none' --define '_binary_payload w.ufdio' \
        --define '__perl_provides %{nil}' --define '__perllib_provides %{nil}'
    umount "$mounted"
    mounted=
    for root in "$@"; do
        [ "$root" = builder ] || { mkdir -p "$WORK/$root/tmp/rpm" && cp -a "$WORK/builder/tmp/rpm/RPMS" "$WORK/$root/tmp/rpm/"; }
        quietly chroot "$WORK/$root" sh -c "rpm --initdb && rpm -i --justdb --nodeps --noscripts --notriggers /tmp/rpm/RPMS/*/*.rpm"
    done
    find "$WORK/builder/tmp/rpm/RPMS" -name '*.rpm' -delete
}

version() { chroot "$WORK/builder" "$@" | grep -o '[0-9][0-9.]*[0-9]' | head -n 1; }
glibc=$(version ldd --version)

SETUP='/etc/(passwd|group|shadow|gshadow|subuid|subgid)'
SHADOW='/usr/sbin/(user|group)[a-z]*'
DNF5='/usr/bin/dnf5'
say "registering what a base has in its rpm database"
list_files "$WORK/runtime" > "$WORK/base.files"
{
    cat <<-END
	Name: distribution-base
	Version: 12
	Release: 1
	Summary: All that the stand-in's base has
	License: as in Debian
	AutoReq: no
	Provides: system-release = 12
	Provides: system-release(releasever) = 12
	Provides: distribution-release = 12
	Provides: glibc = $glibc, glibc-common = $glibc
	Provides: rtld(GNU_HASH)
	Provides: bash, coreutils, filesystem, findutils, gawk, grep, gzip, sed, tar, tzdata, util-linux
	Provides: rpm = $(version rpm --version), $provides
	Provides: /bin/sh, /bin/bash, /sbin/ldconfig, /usr/sbin/ldconfig
	END
    sed 's/\([^:]*\):.*/Provides: user(\1)/' "$WORK/runtime/etc/passwd"
    sed 's/\([^:]*\):.*/Provides: group(\1)/' "$WORK/runtime/etc/group"
    cat <<-END
	Requires: setup, shadow-utils
	%description
	A Debian root, as one package.
	%package -n setup
	Summary: Users and groups
	%description -n setup
	The first users and groups.
	%package -n shadow-utils
	Summary: Changes users and groups
	AutoReq: no
	%description -n shadow-utils
	Makes, changes and removes users and groups.
	END
    [ $manager != dnf5 ] || cat <<-END
	%package -n dnf5
	Summary: Package manager
	AutoReq: no
	%description -n dnf5
	Installs packages.
	END
    cat <<-END
	%clean
	exit 0
	%transfiletriggerin -P 2000000 -- /lib /usr/lib /lib64 /usr/lib64
	/sbin/ldconfig
	%transfiletriggerpostun -P 2000000 -- /lib /usr/lib /lib64 /usr/lib64
	/sbin/ldconfig
	%files
	%ghost /etc/ld.so.cache
	END
    # (Who may change users, and who keeps records of installs, is told by these packages' names.)
    grep -vE " ($SETUP|$SHADOW|$DNF5)\$" "$WORK/base.files" | as_files
    echo '%files -n setup'
    grep -E " $SETUP\$" "$WORK/base.files" | as_files
    echo '%files -n shadow-utils'
    grep -E " $SHADOW\$" "$WORK/base.files" | as_files
    if [ $manager = dnf5 ]; then
        echo '%files -n dnf5'
        grep -E " $DNF5\$" "$WORK/base.files" | as_files
    fi
} > "$WORK/distribution-base.spec"
register distribution-base runtime runtime builder

say "registering what a builder has"
list_files "$WORK/builder" > "$WORK/builder.files"
gcc=$(version gcc --version)
{
    cat <<-END
	Name: distribution-build
	Version: 12
	Release: 1
	Summary: All that the stand-in's builder has beyond its base
	License: as in Debian
	AutoReq: no
	Requires: distribution-base = 12
	Provides: gcc = $gcc, cpp = $gcc, binutils, make, patch, elfutils, cpio, file, xz, bzip2, unzip, diffutils, debugedit, perl
	Provides: glibc-devel = $glibc, glibc-headers = $glibc, kernel-headers
	Provides: rpm-build = $(version rpm --version), redhat-rpm-config, pkgconf, pkgconf-pkg-config, createrepo_c
	%description
	A compiler and what builds rpms, as one package.
	%clean
	exit 0
	%files
	END
    comm -13 "$WORK/base.files" "$WORK/builder.files" | as_files
} > "$WORK/distribution-build.spec"
register distribution-build builder builder

for root in runtime builder; do
    tar=${prefix}base.tar
    [ $root = runtime ] || tar=${prefix}builder.tar
    say "writing $tar"
    quietly chroot "$WORK/$root" sh -c 'rm -rf /tmp/rpm && ldconfig && rm -f /var/cache/ldconfig/aux-cache && rpmdb --rebuilddb'
    # What sqlite keeps beside a database while it is open, and rpm's lock.
    (cd "$WORK/$root/usr/lib/sysimage/rpm" && rm -f .rpm.lock rpmdb.sqlite-shm rpmdb.sqlite-wal)
    tar --create --file="$WORK/tar" --directory="$WORK/$root" --format=gnu --numeric-owner --sort=name \
        --mtime="@$SOURCE_DATE_EPOCH" --clamp-mtime --one-file-system .
    # Whole, or not there.
    mv "$WORK/tar" "$out/.$tar.new"
    mv "$out/.$tar.new" "$out/$tar"
done
