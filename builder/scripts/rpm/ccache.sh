# Downloads the distribution's ccache and those of its libraries that this base has not, and puts them into $T/ccache.
# Nothing is installed: rpm unpacks them below a root of their own, and runs no script of theirs.
distribution
fetch ccache
mkdir -p "$T/ccache" "$T/unpacked"
rpm --root "$T/unpacked" -i --nodeps --noscripts --notriggers --nosignature --ignoresize -- "$T"/out/*.rpm
cp "$T/unpacked/usr/bin/ccache" "$T/ccache"
find "$T/unpacked" -name 'lib*.so.*' ! -type d -exec cp -L {} "$T/ccache" \;
