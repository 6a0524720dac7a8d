# Configures, builds, tests and installs /build/src, which has no packaging, with debhelper's own ways to do so. $RECIPE_SYSTEM
# is the build system, "$@" are options of its configuration. /build/out gets the installed tree, and what the build system
# says of it.
mkdir -p /build/out/tree /build/home
cd /build/src
apply_patches /build/patches
install_needs /build/control
# debhelper asks for a name and its own level of compatibility, and for nothing else here.
rm -rf debian
mkdir debian
printf 'Source: source\nBuild-Depends: debhelper-compat (= 13)\n\nPackage: source\nArchitecture: any\n' > debian/control
printf 'source (1) unstable; urgency=medium\n\n  * x\n\n -- x <x@x.invalid>  Thu, 01 Jan 1970 00:00:00 +0000\n' > debian/changelog
export SOURCE_DATE_EPOCH HOME=/build/home LC_ALL=C.UTF-8
unset APT_CONFIG
step() { with_environment "$@"; }
use_ccache
echo 'twostage: phase build'
case $RECIPE_SYSTEM in
meson)
    system=meson+ninja
    # A feature is there because somebody says so, and not because of what is installed beside it.
    set -- -Dauto_features=disabled "$@"
    ;;
cmake) system=cmake ;;
autotools)
    system=autoconf
    step dh_update_autotools_config
    if [ -e configure.ac ] || [ -e configure.in ]; then
        if [ -x autogen.sh ] && [ ! -e configure ]; then step env NOCONFIGURE=1 dh_autoreconf ./autogen.sh; else step dh_autoreconf; fi
    fi
    ;;
make) system=makefile ;;
esac
if [ "$RECIPE_SYSTEM" = make ]; then
    step dh_auto_build --buildsystem=$system -- prefix=/usr PREFIX=/usr "$@"
    case " $DEB_BUILD_OPTIONS " in *' nocheck '*) ;; *) step dh_auto_test --buildsystem=$system -- prefix=/usr PREFIX=/usr "$@" ;; esac
    step dh_auto_install --buildsystem=$system --destdir=/build/out/tree -- prefix=/usr PREFIX=/usr "$@"
else
    step dh_auto_configure --buildsystem=$system --builddirectory=/build/work -- "$@"
    step dh_auto_build --buildsystem=$system --builddirectory=/build/work
    case " $DEB_BUILD_OPTIONS " in *' nocheck '*) ;; *) step dh_auto_test --buildsystem=$system --builddirectory=/build/work ;; esac
    step dh_auto_install --buildsystem=$system --builddirectory=/build/work --destdir=/build/out/tree
fi
if [ "$RECIPE_SYSTEM" = meson ]; then
    meson introspect --install-plan /build/work > /build/out/plan.json
    meson introspect --installed /build/work > /build/out/installed.json
fi
