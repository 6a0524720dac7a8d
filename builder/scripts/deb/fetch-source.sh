# Downloads the source package "$1" (name or name=version) from the base's own mirrors, which
# name only binary packages as a rule.
mkdir -p "$T/source-lists"
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    if [ -e "$list" ]; then sed -n 's/^[[:space:]]*deb[[:space:]]/deb-src /p' "$list"; fi
done > "$T/source-lists/twostage.list"
for list in /etc/apt/sources.list.d/*.sources; do
    if [ -e "$list" ]; then sed 's/^Types:.*/Types: deb-src/' "$list" > "$T/source-lists/${list##*/}"; fi
done
apt-get -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$T/source-lists" update
cd "$T/out"
apt-get -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$T/source-lists" -o APT::Sandbox::User=root \
    source --download-only --only-source -- "$1"
