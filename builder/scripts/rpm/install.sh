# Makes a builder image: the base and exactly the packages "$@" (name-version-release.arch).
if [ $# != 0 ]; then add "$@"; fi
rm -rf "$T"
