# Downloads exactly the packages "$@" (name:arch=version) from the base's own sources.
apt-get update
index
download "$@"
