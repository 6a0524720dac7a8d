# Every script of a builder container starts with this. What apt writes is below $T, so that
# nothing of it can be mistaken for the base's.
set -eu
umask 022
T=/var/cache/twostage
mkdir -p "$T/lists/partial" "$T/cache/archives/partial" "$T/log" "$T/sources" "$T/preferences" "$T/out"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C TZ=UTC HOME="$T"
export APT_CONFIG="$T/apt.conf"
# Our own server is reached as a proxy for its fixed host, everything else as the base says.
cat > "$APT_CONFIG" <<END
Dir::State::lists "$T/lists"; Dir::Cache "$T/cache"; Dir::Log "$T/log";
Acquire::http::Proxy::repository.twostage.invalid "$TWOSTAGE_PROXY";
APT::Update::Error-Mode "any"; APT::Get::Assume-Yes "true"; APT::Install-Recommends "false"; Acquire::Languages "none";
Dpkg::Options { "--force-unsafe-io"; "--force-confnew"; };
END
# An engine whose containers have one user says there that apt cannot become another one.
if [ -e /dev/twostage-apt.conf ]; then cat /dev/twostage-apt.conf >> "$APT_CONFIG"; fi
# download name:arch=version…: exactly these packages, into $T/out.
download() {
    cd "$T/out"
    apt-get -o APT::Sandbox::User=root download -- "$@"
}
# only_snapshot: from here on apt knows no source but the snapshot in $T/sources.
only_snapshot() {
    cat >> "$APT_CONFIG" <<END
Dir::Etc::main "/dev/null"; Dir::Etc::parts "/dev/null"; Dir::Etc::sourcelist "/dev/null"; Dir::Etc::sourceparts "$T/sources";
Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null"; Dir::Etc::netrc "/dev/null";
END
}
# claims: tells which of the names in $T/claims, one a line, are those of packages that the base has, which needs no mirror,
# or that apt knows from elsewhere than the project.
claims_of_base() {
    if [ ! -s "$T/claims" ]; then return; fi
    # shellcheck disable=SC2046 # names of packages have no blanks
    dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' -- $(cat "$T/claims") 2> /dev/null | sed -n 's/^installed /twostage: taken /p'
}
claims() {
    if [ ! -s "$T/claims" ]; then return; fi
    claims_of_base
    # shellcheck disable=SC2046
    apt-cache madison -- $(cat "$T/claims") > "$T/madison"
    awk '!/repository\.twostage\.invalid/ && $NF != "Sources" { print "twostage: taken", $1 }' "$T/madison" | sort -u
    echo 'twostage: claims answered'
}
# index: tells the names of all packages that the base's own sources have, if $T/index asks for them.
index() {
    if [ ! -e "$T/index" ]; then return; fi
    : > "$T/named"
    for file in "$T"/lists/*_Packages*; do
        case $file in
        */repository.twostage.invalid_*) ;;
        *)
            if [ -f "$file" ]; then
                # Not in a pipe, where its failure would be lost, and with it names.
                /usr/lib/apt/apt-helper cat-file "$file" > "$T/list"
                sed -n 's/^Package: //p' "$T/list" >> "$T/named"
            fi
            ;;
        esac
    done
    sort -u "$T/named" > "$T/indexed"
    rm -f "$T/list" "$T/named"
    paste -d ' ' - - - - - - - - - - - - - - - - - - - - - - - - < "$T/indexed" | sed 's/^/twostage: index /'
    echo "twostage: end of index $(wc -l < "$T/indexed")"
}
