# Downloads the source package "$1" (name or name-version-release) from the base's own repositories.
distribution
fetch_source "$1"
