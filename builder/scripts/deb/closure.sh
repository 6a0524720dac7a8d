# Asks apt what "$@" needs beyond this base, and downloads it. The simulation between the two
# marks tells where each package comes from, and what would be downgraded (which is then refused).
# Only when it is not quiet does apt say that it takes another package than the one that was named.
if [ -d /etc/apt/sources.list.d ]; then cp -a /etc/apt/sources.list.d/. "$T/sources"; fi
if [ -d /etc/apt/preferences.d ]; then cp -a /etc/apt/preferences.d/. "$T/preferences"; fi
# What the project built, and what was locked before, goes first.
printf 'Package: *\nPin: origin "repository.twostage.invalid"\nPin-Priority: 1001\n' > "$T/preferences/zz-twostage"
set -- -o Dir::Etc::sourceparts="$T/sources" -o Dir::Etc::preferencesparts="$T/preferences" --no-install-recommends "$@"
apt-get update -o Dir::Etc::sourceparts="$T/sources" -o APT::Update::Error-Mode=any
echo 'twostage: simulation begins'
apt-get -o quiet=0 --simulate --allow-downgrades "$@"
echo 'twostage: simulation ends'
apt-get --download-only "$@"
find "$T/cache/archives" -name '*.deb' -exec mv {} "$T/out" \;
