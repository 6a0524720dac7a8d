# Downloads exactly the packages "$@" (name-version-release.arch) from the base's own repositories.
distribution
fetch_exactly "$@"
index
