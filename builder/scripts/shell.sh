# Enters the container of a build: with the build's environment, in its folder. "$@" is a command, or nothing for a shell.
if [ -r /build/environment ]; then . /build/environment; fi
mkdir -p /build/home
for folder in /build/rpm/BUILD /build/src /build; do
    if cd "$folder" 2> /dev/null; then break; fi
done
if [ $# -gt 0 ]; then exec "$@"; fi
if command -v bash > /dev/null; then exec bash -i; fi
exec sh -i
