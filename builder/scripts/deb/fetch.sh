# Downloads exactly the packages "$@" (name:arch=version) from the base's own sources.
apt-get update
cd "$T/out"
apt-get -o APT::Sandbox::User=root download "$@"
