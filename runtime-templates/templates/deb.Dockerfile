# {{image}}: written by `twostage runtime` from {{project_file}}. Edit that, not this.
#
# Plain docker builds it too, beside `twostage serve`:
#   docker build --network=host --build-arg http_proxy=http://127.0.0.1:8417 -t {{image}} - < Dockerfile
#
# The host repository.twostage.invalid exists nowhere (RFC 2606): only twostage, asked as the
# proxy, answers for it. So no address gets into the image, its history or the build cache.
FROM {{from}}
RUN set -eu; umask 022; T=/var/cache/twostage; \
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C TZ=UTC HOME="$T" SOURCE_DATE_EPOCH={{date}}; \
    fail() { echo "twostage: $*" >&2; exit 1; }; \
    mkdir "$T" "$T/base" "$T/sources" "$T/lists" "$T/lists/partial" "$T/cache" "$T/cache/archives" "$T/cache/archives/partial" "$T/log" \
        || fail "$T is there already: this base is the layer of an earlier build"; \
    : > "$T/start"; \
# What installing rewrites by the way: kept as the base has it, put back at the end.
    VOLATILE="{{volatile}}"; \
    for f in $VOLATILE; do if [ -e "$f" ]; then cp -a --parents "$f" "$T/base"; fi; done; \
# A private apt: the snapshot is its only source, and all that it writes is below $T.
    printf '%s\n' \
        'Dir::Etc::main "/dev/null"; Dir::Etc::parts "/dev/null"; Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";' \
        "Dir::Etc::sourcelist \"/dev/null\"; Dir::Etc::sourceparts \"$T/sources\"; Dir::Etc::netrc \"/dev/null\";" \
        "Dir::State::lists \"$T/lists\"; Dir::Cache \"$T/cache\"; Dir::Log \"$T/log\";" \
        'APT::Update::Error-Mode "any"; APT::Get::Assume-Yes "true"; APT::Install-Recommends "false"; Acquire::Languages "none";' \
        'Dpkg::Options { "--log=/dev/null"; "--force-unsafe-io"; "--force-confnew"; };' \
{{path_options}}        > "$T/apt.conf"; \
    export APT_CONFIG="$T/apt.conf"; \
    /usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file {{base_url}}/@{{snapshot}}.sources "$T/sources/twostage.sources" \
        || fail "the snapshot's server does not answer: is http_proxy the address of twostage serve?"; \
    apt-get update; \
    apt-get install --download-only {{packages}}; \
# Signatures are checked. What was chosen must also be, byte for byte, what the project locked.
    (cd "$T/cache/archives" && sha256sum *.deb 2>/dev/null || :) > "$T/chosen"; \
    [ "$(sha256sum < "$T/chosen")" = "{{closure}}  -" ] \
        || { cat "$T/chosen" >&2; fail "these are not the {{count}} packages that were locked for {{image}}"; }; \
    unset http_proxy; \
    P=/usr/sbin/policy-rc.d; if [ -e $P ]; then P=; else printf '#!/bin/sh\nexit 101\n' > $P; chmod 755 $P; fi; \
    apt-get install --no-download {{packages}}; \
    if [ -n "$P" ]; then rm "$P"; fi; \
{{make_user}}# Put back or remove what nobody asked for.
    find $VOLATILE -xdev -depth -cnewer "$T/start" ! -type d > "$T/changed" 2>/dev/null || :; \
    while read -r f; do if [ -e "$T/base$f" ]; then cp -a "$T/base$f" "$f"; else rm -f "$f"; fi; done < "$T/changed"; \
    find /run /tmp /var/tmp -xdev -mindepth 1 -depth -type d -cnewer "$T/start" > "$T/changed"; \
    while read -r f; do if [ ! -e "$T/base$f" ]; then rmdir "$f"; fi; done < "$T/changed"; \
# No time of this build stays: all that changed is as old as the newest package. (Fontconfig keeps
# the times of font folders in its caches, so these are written anew in between.)
    clamp() { find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path "$T" \) -prune \
        -o -cnewer "$T/start" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +; }; \
    clamp; \
    if [ -x /usr/bin/fc-cache ] && [ /var/cache/fontconfig -nt "$T/base" -o -n "$(find /var/cache/fontconfig -cnewer "$T/start" 2>/dev/null)" ]; then \
        rm -f /var/cache/fontconfig/*; fc-cache -s; rm -f /var/log/fontconfig.log; clamp; fi; \
    rm -r "$T"; touch -d "@$SOURCE_DATE_EPOCH" /var/cache
{{metadata}}
