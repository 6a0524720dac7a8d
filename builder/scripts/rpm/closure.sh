# Asks the package manager what "$@" needs beyond this base, and downloads it: "install NAME…", or
# "build-dep SPEC". The lines at the end tell what came from where, and what it would replace.
distribution
what=$1
shift
if [ "$what" = build-dep ]; then
    spec=$1
    fetch rpm-build
    # Only rpm itself can read a spec file: what its macros make of it is the distribution's affair.
    if ! command -v rpmspec > /dev/null; then add rpm-build; fi
    with_build_requires "$spec" fetch
else
    fetch "$@"
fi
claims
index
for file in "$T"/out/*.rpm; do
    if [ ! -e "$file" ]; then continue; fi
    rpm -qp --nosignature --qf '%{NAME}-%{EVR}.%{ARCH}\n' -- "$file" >> "$T/chosen"
    rpm -qp --nosignature --qf '%{NAME}\n%{NAME}-%{EVR}\n' -- "$file" >> "$T/names"
    name=$(rpm -qp --nosignature --qf '%{NAME}' -- "$file")
    if rpm -q -- "$name" > /dev/null; then rpm -q --qf 'twostage: installed %{NAME} %{EVR}\n' -- "$name"; fi
done
if [ -e "$T/chosen" ]; then origins; fi
# A name that no chosen package has was taken for something that another one provides.
if [ "$what" = install ]; then
    for word in "$@"; do
        if rpm -q -- "$word" > /dev/null; then
            echo "twostage: present $word"
        elif ! grep -qxF -e "$word" "$T/names" 2> /dev/null; then
            {
                if rpm -q --whatprovides -- "$word" > /dev/null; then rpm -q --whatprovides --qf '%{NAME}\n' -- "$word"; fi
                providers "$word"
            } | sed '/^$/d' | sort -u > "$T/providers"
            echo "twostage: instead of $word" $(cat "$T/providers")
        fi
    done
fi
