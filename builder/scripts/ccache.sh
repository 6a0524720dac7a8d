# use_ccache: from here on compilers are found in a folder in front of PATH, where the input has a ccache: scripts that ask
# it. It is no package, and it is started with libraries of its own that no compiler sees.
C=/build/ccache
use_ccache() {
    if [ ! -x "$C/program/ccache" ]; then return; fi
    for loader in /lib64/ld-linux*.so.* /lib/ld-linux*.so.* /lib64/ld64.so.* none; do
        if "$loader" --library-path "$C/program" "$C/program/ccache" --version > /dev/null 2>&1; then break; fi
    done
    if [ "$loader" = none ]; then
        echo 'twostage: its ccache does not run here'
        return
    fi
    mkdir -p "$C/bin" "$C/kept" "$C/tmp"
    # What decides of an object besides its source: packages of the distribution, and the programs, which may be the project's.
    # (ccache itself would look at the compiler's driver, and not at the assembler.)
    tools=$({
        cat "$C/closure"
        cat /usr/bin/as /usr/bin/ld /usr/bin/*gcc* /usr/bin/*g++* /usr/bin/clang* /usr/lib/gcc/*/*/cc1* /usr/libexec/gcc/*/*/cc1* 2> /dev/null || :
    } | sha256sum)
    # No base_dir: it would change what __FILE__ says. No sloppiness: what is not the same is compiled. No file of
    # settings: the one that is kept is the build's. No inodes: they are those of another container.
    cat > "$C/ccache" << END
#!/bin/sh
export CCACHE_DIR=$C/kept CCACHE_TEMPDIR=$C/tmp CCACHE_CONFIGPATH=/dev/null CCACHE_MAXSIZE=1G CCACHE_COMPILERCHECK=string:${tools%% *}
export CCACHE_NOINODECACHE=1 CCACHE_HASHDIR=1 CCACHE_BASEDIR= CCACHE_SLOPPINESS= CCACHE_UMASK=022
unset CCACHE_NOHASHDIR CCACHE_PREFIX CCACHE_PREFIX_CPP CCACHE_EXTENSION CCACHE_NODEPEND CCACHE_DEPEND
exec $loader --library-path $C/program $C/program/ccache "\$@"
END
    chmod 755 "$C/ccache"
    for compiler in /usr/bin/cc /usr/bin/c++ /usr/bin/gcc /usr/bin/g++ /usr/bin/clang /usr/bin/clang++ /usr/bin/gcc-[0-9]* /usr/bin/g++-[0-9]* \
        /usr/bin/clang-[0-9]* /usr/bin/clang++-[0-9]* /usr/bin/*-gcc /usr/bin/*-g++ /usr/bin/*-gcc-[0-9]* /usr/bin/*-g++-[0-9]*; do
        if [ ! -x "$compiler" ]; then continue; fi
        printf '#!/bin/sh\nexec %s/ccache %s "$@"\n' "$C" "$compiler" > "$C/bin/${compiler##*/}"
        chmod 755 "$C/bin/${compiler##*/}"
    done
    "$C/ccache" --zero-stats > /dev/null || :
    export PATH="$C/bin:$PATH"
    trap 'status=$?; tell_ccache || :; exit $status' EXIT
}
# tell_ccache: says how many of all compilations were hits.
tell_ccache() {
    "$C/ccache" --print-stats > "$C/stats"
    hits=0 misses=0
    while read -r name number; do
        case $name in
        direct_cache_hit | preprocessed_cache_hit) hits=$((hits + number)) ;;
        cache_miss) misses=$number ;;
        esac
    done < "$C/stats"
    echo "twostage: ccache $hits of $((hits + misses))"
}
