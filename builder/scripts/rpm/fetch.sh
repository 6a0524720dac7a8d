# Downloads exactly the packages "$@" (name-version-release.arch) from the base's own repositories.
distribution
private_dnf download --destdir="$T/out" "$@"
