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
# by_file: finds the packages that have what $T/by-file asks for, "required pc glib-2.0" or "wanted cmd bison" a line, in
# the distribution's lists of files, and adds them to the build dependencies in $T/control. What is required and is in no
# package is an error.
by_file() {
    # Each need with the paths that would fulfil it, without the folder of the architecture.
    awk '{
        kind = $2; name = $3
        if (kind == "pc") { print "usr/lib/pkgconfig/" name ".pc", NR; print "usr/share/pkgconfig/" name ".pc", NR }
        if (kind == "cmd") { n = split("usr/bin/ usr/sbin/ bin/ sbin/", folder, " "); for (i = 1; i <= n; i++) print folder[i] name, NR }
        if (kind == "header") print "usr/include/" name, NR
        if (kind == "cmake") {
            n = split("usr/lib/cmake/ usr/share/cmake/ usr/share/", folder, " ")
            for (i = 1; i <= n; i++) { print folder[i] name "/" name "Config.cmake", NR; print folder[i] name "/" tolower(name) "-config.cmake", NR }
            for (i = 1; i <= n; i++) print folder[i] tolower(name) "/" tolower(name) "-config.cmake", NR
        }
    }' "$T/by-file" > "$T/paths"
    sed 's,^\([^ ]*/\)*\([^ /]*\) [0-9]*$,/\2,' "$T/paths" | sort -u > "$T/ends"
    : > "$T/having"
    # (A package that is wished for by its name has that name here or is left out.)
    awk '$2 == "package" { print NR, $3 }' "$T/by-file" | while read -r number package; do
        if apt-cache show -- "$package" > /dev/null 2>&1; then echo "$number $package" >> "$T/having"; fi
    done
    apt-get indextargets --format '$(FILENAME)' 'Created-By: Contents-deb' > "$T/contents"
    while read -r list; do
        if [ ! -e "$list" ]; then continue; fi
        /usr/lib/apt/apt-helper cat-file "$list" > "$T/list"
        # (Most lines go before they are looked at one by one.)
        grep -F -f "$T/ends" -- "$T/list" | awk -v paths="$T/paths" '
            BEGIN { while ((getline line < paths) > 0) { split(line, word, " "); wanted[word[1]] = wanted[word[1]] " " word[2] } }
            {
                path = $1
                sub(/^usr\/lib\/[a-z0-9_]+-linux-[a-z0-9]+\//, "usr/lib/", path)
                sub(/^usr\/include\/[a-z0-9_]+-linux-[a-z0-9]+\//, "usr/include/", path)
                if (path in wanted) {
                    n = split(wanted[path], need, " "); m = split($NF, owner, ",")
                    for (i = 1; i <= n; i++) for (j = 1; j <= m; j++) { sub(/.*\//, "", owner[j]); print need[i], owner[j] }
                }
            }' >> "$T/having"
        rm -f "$T/list"
    done < "$T/contents"
    # Of several packages: the one of that name, else one for development, else the first.
    sort -u "$T/having" | awk -v needs="$T/by-file" '
        BEGIN { while ((getline line < needs) > 0) { count++; split(line, word, " "); must[count] = word[1]; kind[count] = word[2]; name[count] = word[3] } }
        {
            rank = 3
            if ($2 == name[$1]) rank = 1
            else if (kind[$1] != "cmd" && $2 ~ /-dev$/) rank = 2
            if (!($1 in best) || rank < best[$1]) { best[$1] = rank; package[$1] = $2 }
        }
        END {
            for (i = 1; i <= count; i++) {
                if (i in package) print "twostage: found", kind[i], name[i], package[i]
                else print "twostage: " (must[i] == "required" ? "missing" : "unknown"), kind[i], name[i]
            }
        }' > "$T/answers"
    cat "$T/answers"
    if grep -q '^twostage: missing ' "$T/answers"; then exit 1; fi
    found=$(sed -n 's/^twostage: found [^ ]* [^ ]* //p' "$T/answers" | sort -u | sed 's/^/, /' | tr -d '\n')
    sed -i "s/^Build-Depends: .*/&$found/" "$T/control/debian/control"
}
