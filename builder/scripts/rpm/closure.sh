# Asks dnf what "$@" needs beyond this base, and downloads it: "install NAME…", or "build-dep SPEC".
# The lines at the end tell what came from where, and what it would replace.
distribution
what=$1
shift
take() { private_dnf install --downloadonly --destdir="$T/out" "$@"; }
if [ "$what" = build-dep ]; then
    spec=$1
    take rpm-build
    # Only rpm itself can read a spec file: what its macros make of it is the distribution's affair.
    if ! command -v rpmspec > /dev/null; then private_dnf install rpm-build; fi
    with_build_requires "$spec" take
else
    take "$@"
fi
for file in "$T"/out/*.rpm; do
    if [ ! -e "$file" ]; then continue; fi
    rpm -qp --nosignature --qf '%{NAME}-%{EVR}.%{ARCH}\n' "$file" >> "$T/chosen"
    rpm -qp --nosignature --qf '%{NAME}\n%{NAME}-%{EVR}\n' "$file" >> "$T/names"
    name=$(rpm -qp --nosignature --qf '%{NAME}' "$file")
    if rpm -q "$name" > /dev/null; then rpm -q --qf 'twostage: installed %{NAME} %{EVR}\n' "$name"; fi
done
if [ -e "$T/chosen" ]; then
    # shellcheck disable=SC2046 # names of packages have no blanks
    private_dnf --cacheonly --quiet repoquery --available --qf 'twostage: from %{repoid} %{name} %{evr}\n' $(cat "$T/chosen") | sed 's/\\n$//'
fi
# A name that no chosen package has was taken for something that another one provides.
if [ "$what" = install ]; then
    for word in "$@"; do
        if rpm -q "$word" > /dev/null; then
            echo "twostage: present $word"
        elif ! grep -qxF -e "$word" "$T/names" 2> /dev/null; then
            {
                if rpm -q --whatprovides "$word" > /dev/null; then rpm -q --whatprovides --qf '%{NAME}\n' "$word"; fi
                private_dnf --cacheonly --quiet repoquery --whatprovides "$word" --qf '%{name}\n' | sed 's/\\n$//'
            } | sed '/^$/d' | sort -u > "$T/providers"
            echo "twostage: instead of $word" $(cat "$T/providers")
        fi
    done
fi
