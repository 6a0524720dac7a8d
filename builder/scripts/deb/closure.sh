# Asks apt what "$@" ("install NAME…" or "build-dep FOLDER") needs beyond this base, and downloads what the repository has not. The simulation between the two
# marks tells where each package comes from, and what would be downgraded (which is then refused).
# Only when it is not quiet does apt say that it takes another package than the one that was named.
if [ -d /etc/apt/sources.list.d ]; then cp -a /etc/apt/sources.list.d/. "$T/sources"; fi
if [ -d /etc/apt/preferences.d ]; then cp -a /etc/apt/preferences.d/. "$T/preferences"; fi
# What the project built, and what was locked before, goes first.
printf 'Package: *\nPin: origin "repository.twostage.invalid"\nPin-Priority: 1001\n' > "$T/preferences/zz-twostage"
cat >> "$APT_CONFIG" << END
Dir::Etc::sourceparts "$T/sources"; Dir::Etc::preferencesparts "$T/preferences";
END
# apt leaves out what these build profiles do without.
if [ -e "$T/profiles" ]; then
    DEB_BUILD_PROFILES=$(cat "$T/profiles")
    export DEB_BUILD_PROFILES
fi
asked=$1
shift
if [ -e "$T/by-file" ]; then
    cat >> "$APT_CONFIG" << 'END'
Acquire::IndexTargets::deb::Contents-deb {
    MetaKey "$(COMPONENT)/Contents-$(ARCHITECTURE)"; flatMetaKey "Contents-$(ARCHITECTURE)";
    ShortDescription "Contents-$(ARCHITECTURE)"; Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Contents (deb)";
};
END
fi
apt-get update
claims
index
if [ -e "$T/by-file" ]; then by_file; fi
echo 'twostage: simulation begins'
apt-get -o quiet=0 --simulate --allow-downgrades "$asked" -- "$@"
echo 'twostage: simulation ends'
# Of the lines "'URI' FILE SIZE SHA256:DIGEST", what the repository has by its digest in $T/known does not come again.
apt-get -o Acquire::ForceHash=SHA256 --print-uris "$asked" -- "$@" > "$T/uris"
awk "/^'/ { print \$4 ? \$4 : \"none\", \$2 }" "$T/uris" | sort > "$T/needed"
join -o 1.1 "$T/needed" "$T/known" | sed 's/^SHA256:/twostage: known /'
join -v 1 -o 1.2 "$T/needed" "$T/known" | sed 's/^\([^_]*\)_\([^_]*\)_\([^_]*\)[.]deb$/\1:\3=\2/; s/:all=/=/; s/%3a/:/g' > "$T/wanted"
if [ -s "$T/wanted" ]; then
    # shellcheck disable=SC2046 # names of packages have no blanks
    download $(cat "$T/wanted")
fi
