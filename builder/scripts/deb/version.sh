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
