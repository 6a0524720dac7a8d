# Packs what was installed and divided: /build/src/debian has control, copyright and a folder for each package. /build/asks says
# what packages need, one a line: "PACKAGE run PROGRAM" and "PACKAGE module NAME" (of pkg-config). $RECIPE_VERSION is the
# source's version.
mkdir -p /build/out /build/home
cd /build/src
install_needs /build/control
echo 'twostage: phase build'
if [ "$SOURCE_DATE_EPOCH" -lt 315532800 ]; then SOURCE_DATE_EPOCH=315532800; fi
export SOURCE_DATE_EPOCH HOME=/build/home LC_ALL=C.UTF-8
unset APT_CONFIG
changelog_entry "$(sed -n 's/^Source: //p' debian/control)" "$RECIPE_VERSION-1" unstable > debian/changelog
# owner FILE: the package that has it. Where /bin is a link, dpkg may know it by the other of its two names.
owner() {
    for file in "$1" "${1#/usr}" "/usr$1" "$(realpath -- "$1")"; do
        found=$(dpkg-query --search -- "$file" 2> /dev/null) || continue
        echo "$found" | sed -n 's/^\([^ :,]*\).*: .*/\1/p' | head -n 1
        return
    done
    return 1
}
: > /build/found
while read -r package kind name; do
    case $kind in
    run)
        case $name in /*) file=$name ;; *) file=$(command -v -- "$name") || file=$name ;; esac
        # A component's own program may run its scripts.
        for own in debian/*/"${file#/}"; do if [ -e "$own" ]; then continue 2; fi; done
        found=$(owner "$file") || {
            echo "twostage: $package has a script that $name runs, and no package that is installed here has that" >&2
            exit 1
        }
        # Debian divides these two; scripts need all of them.
        case $found in python3-minimal) found=python3 ;; perl-base) found=perl ;; esac
        ;;
    module)
        if [ -n "$(find debian -name "$name.pc")" ]; then continue; fi
        folder=$(pkg-config --variable=pcfiledir -- "$name") && found=$(owner "$folder/$name.pc") || {
            echo "twostage: $package has a file of pkg-config that requires $name, and no package that is installed here has that" >&2
            exit 1
        }
        ;;
    *) continue ;;
    esac
    echo "$package $found" >> /build/found
done < /build/asks
sort -u /build/found | while read -r package found; do
    line=$(sed -n 's/^twostage:Depends=//p' "debian/$package.substvars" 2> /dev/null) || line=
    printf 'twostage:Depends=%s\n' "${line:+$line, }$found" > "debian/$package.substvars"
done
dh_installdocs
dh_installchangelogs
for step in dh_installsystemd dh_installsystemduser dh_installsysusers dh_installtmpfiles; do
    if command -v $step > /dev/null; then $step; fi
done
dh_link
dh_compress
dh_fixperms
dh_strip
dh_makeshlibs -V
dh_shlibdeps
dh_installdeb
dh_gencontrol
dh_md5sums
dh_builddeb --destdir=/build/out
