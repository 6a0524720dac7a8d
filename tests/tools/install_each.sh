#!/bin/sh
# In a container: a fresh apt client for each line `FROM WAY PACKAGE LABEL` of standard input takes
# its client file from the server and downloads the package with all that it needs.
#
#   install_each.sh SERVER        SERVER is http://host:port
#
#   WAY path   the client file is the server's own, its address changed to SERVER/FROM: what it
#              names is fetched through there
#   WAY file   the client file itself comes from SERVER/FROM/, and SERVER is the client's proxy
#
# For each line one line with tabs between: the label; `taken` or `refused`; the digests of all
# packages that apt has put into its cache (sorted, joined with +); its first complaint. Nothing of
# one client is left for the next.
set -u
server=$1
home=$(mktemp -d)
client=$home/client
chmod 755 "$home"
fetch() { # fetch URL FILE
    /usr/lib/apt/apt-helper -o APT::Sandbox::User=root -o Acquire::Retries=0 download-file "$1" "$2" > /dev/null 2>> "$home/said"
}
while read -r from way package label; do
    rm -rf "$client"
    mkdir -p "$client/sources" "$client/cache" "$client/lists"
    chmod -R 755 "$client"
    cat > "$client/apt.conf" << END
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$client/sources";
Dir::State::lists "$client/lists";
Dir::Cache "$client/cache";
Acquire::Retries "0";
Acquire::http::Timeout "5";
END
    export APT_CONFIG="$client/apt.conf"
    : > "$home/said"
    if [ "$way" = file ]; then
        echo "Acquire::http::Proxy \"$server\";" >> "$client/apt.conf"
        fetch "$server/$from/main.sources" "$client/sources/main.sources"
    else
        fetch "$server/main.sources" "$client/sources/main.sources" &&
            sed -i "s|$server/|$server/$from/|" "$client/sources/main.sources"
    fi
    verdict=refused
    if [ -s "$client/sources/main.sources" ] &&
        apt-get update > /dev/null 2>> "$home/said" < /dev/null &&
        apt-get install -y --no-install-recommends --download-only "$package" > /dev/null 2>> "$home/said" < /dev/null; then
        verdict=taken
    fi
    got=$(cd "$client/cache" && find . -path './archives/*.deb' -exec sha256sum {} + | cut -d ' ' -f 1 | sort | tr '\n' '+')
    printf '%s\t%s\t%s\t%s\n' "$label" "$verdict" "${got%+}" "$(grep -m 1 -E '^[EW]:' "$home/said" | tr '\t' ' ')"
done
rm -rf "$home"
