{{intro}}FROM {{from}}
{{become_root}}RUN set -eu; umask 022; T=/var/cache/twostage; \
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C TZ=UTC HOME="$T" SOURCE_DATE_EPOCH={{date}}; \
{{begin}}# A private apt: the snapshot is its only source, and all that it writes is below $T.
    printf '%s\n' \
        'Dir::Etc::main "/dev/null"; Dir::Etc::parts "/dev/null"; Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";' \
        "Dir::Etc::sourcelist \"/dev/null\"; Dir::Etc::sourceparts \"$T/sources\"; Dir::Etc::netrc \"/dev/null\";" \
        "Dir::State::lists \"$T/lists\"; Dir::Cache \"$T/cache\"; Dir::Log \"$T/log\";" \
        'APT::Update::Error-Mode "any"; APT::Get::Assume-Yes "true"; APT::Install-Recommends "false"; Acquire::Languages "none";' \
        'Dpkg::Options { "--log=/dev/null"; "--force-unsafe-io"; "--force-confnew"; };' \
{{path_options}}        > "$T/apt.conf"; \
# An engine whose containers have one user says there that apt cannot become another one.
    if [ -e /dev/twostage-apt.conf ]; then cat /dev/twostage-apt.conf >> "$T/apt.conf"; fi; \
    export APT_CONFIG="$T/apt.conf"; \
    /usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file {{base_url}}/@{{snapshot}}.sources "$T/sources/twostage.sources" \
        || fail "the snapshot's server does not answer: is http_proxy the address of twostage serve?"; \
    apt-get update; \
    apt-get install --download-only -- {{packages}}; \
# Signatures are checked. What was chosen must also be, byte for byte, what the project locked.
    (cd "$T/cache/archives" && sha256sum *.deb 2>/dev/null || :) > "$T/chosen"; \
    [ "$(sha256sum < "$T/chosen")" = "{{closure}}  -" ] \
        || { cat "$T/chosen" >&2; fail "these are not the {{count}} packages that were locked for {{image}}"; }; \
    unset http_proxy; \
    P=/usr/sbin/policy-rc.d; if [ -e $P ]; then P=; else printf '#!/bin/sh\nexit 101\n' > $P; chmod 755 $P; fi; \
    apt-get install --no-download -- {{packages}}; \
    if [ -n "$P" ]; then rm "$P"; fi; \
{{finish}}{{metadata}}
