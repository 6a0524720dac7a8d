# Downloads the distribution's ccache and those of its libraries that this base has not, and puts them into $T/ccache.
# Nothing is installed.
apt-get update
apt-get --download-only install ccache
mkdir -p "$T/ccache" "$T/unpacked"
for file in "$T"/cache/archives/*.deb; do dpkg-deb --extract "$file" "$T/unpacked"; done
cp "$T/unpacked/usr/bin/ccache" "$T/ccache"
find "$T/unpacked" -name 'lib*.so.*' ! -type d -exec cp -L {} "$T/ccache" \;
