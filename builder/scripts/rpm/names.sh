# Tells which of the names in $T/claims are taken in this base and its distribution.
claims_of_base
distribution
refresh
claims
index
