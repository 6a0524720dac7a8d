# Downloads the source package "$1" (name or name-version-release) from the base's own repositories.
distribution
private_dnf download --source --destdir="$T/out" "$1"
