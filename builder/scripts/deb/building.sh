# version_mark: the mark behind the version of what is built here. Letters sort before a plus. 1-2ubuntu0.1 and 1-2kali1 mend
# something, and are below 1-2+anything.
version_mark() {
    base=$(. /etc/os-release 2> /dev/null && echo "${ID:-} / ${ID_LIKE:-} ") || base=
    case " $base" in
    *" ubuntu "*) echo "$VERSION_MARK_UBUNTU" ;;
    " debian / "* | " raspbian / "* | " devuan / "* | " pureos / "*) echo "$VERSION_MARK" ;;
    *) echo "$VERSION_MARK_DERIVED" ;;
    esac
}
# changelog_entry SOURCE VERSION DISTRIBUTION: the first entry of the changelog of what is built here.
changelog_entry() {
    echo "$1 ($2$(version_mark)$(date --utc --date="@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$VERSION_KEY) $3; urgency=medium"
    printf '\n  * Built by twostage from inputs %s.\n\n' "$BUILD_KEY"
    echo " -- twostage <builder@twostage.invalid>  $(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")"
}
# install_needs FOLDER: installs what a build has that is in no builder image, if it has such; FOLDER has debian/control.
install_needs() {
    if [ ! -e /build/needs ]; then return; fi
    echo 'twostage: phase dependencies'
    only_snapshot
    apt-get update
    apt-get --no-install-recommends build-dep -- "$1"
    echo 'twostage: phase unpack'
}
