# Makes a builder image: the base and exactly the packages "$@" (name-version-release.arch).
if [ $# != 0 ]; then private_dnf install "$@"; fi
rm -rf "$T"
