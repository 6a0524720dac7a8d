# Tells which of the names in $T/claims are taken in this base and its distribution.
apt-get update
claims
