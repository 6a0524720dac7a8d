# Tells which of the names in $T/claims are taken in this base and its distribution.
claims_of_base
# Who is not there is not waited for: the lock has an answer then.
echo 'Acquire::Retries "0"; Acquire::http::Timeout "20"; Acquire::https::Timeout "20";' >> "$APT_CONFIG"
apt-get update
claims
index
