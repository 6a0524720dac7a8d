#!/bin/sh
# In a container: gives every file of a folder to the tool that this distribution's apt checks
# signatures with, and prints the names of those that it takes.
#
#   verify_each.sh KEY.asc FOLDER
set -eu
cd "$2"
out=$(mktemp -d)
if command -v sqv > /dev/null; then
    # As apt calls it: with its own policy about keys and digests.
    export SEQUOIA_CRYPTO_POLICY=/usr/share/apt/default-sequoia.config
    verify() { sqv --keyring "$1" --cleartext --output "$out/text" "$2"; }
    key=$1
else
    verify() { gpgv --quiet --keyring "$1" --output "$out/text" "$2"; }
    key=$out/key
    sed -n '/^$/,/^[=-]/p' "$1" | grep -v '^[=-]' | base64 -d > "$key"
fi
echo "with $(command -v sqv || command -v gpgv)"
for file in *; do
    rm -f "$out/text"
    if verify "$key" "$file" > /dev/null 2>&1; then
        echo "$file"
    fi
done
rm -rf "$out"
