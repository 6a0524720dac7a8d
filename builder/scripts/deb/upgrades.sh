# Says what the base's mirrors have newer than the base itself.
apt-get update
apt-get --simulate dist-upgrade
