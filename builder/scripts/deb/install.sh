# Makes a builder image: the base and exactly the packages "$@" (name:arch=version), no services.
only_snapshot
apt-get update
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get install -- "$@"
rm -rf "$T"
