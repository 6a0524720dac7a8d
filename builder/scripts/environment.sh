# with_environment COMMAND...: runs it with the variables that the project says, whose names are in $BUILD_VARIABLES.
# Nothing else sees them: a variable may have the name of one of these scripts'. With $BUILD_AGAIN the umask,
# the time zone and the locale are others, which must make no difference to a package.
with_environment() (
    if [ -n "${BUILD_AGAIN:-}" ]; then
        umask 002
        # 14 hours ahead of UTC, in the form that needs no file of time zones.
        export TZ=TWICE-14 LC_ALL=POSIX
        unset BUILD_AGAIN
    fi
    for name in $BUILD_VARIABLES; do
        eval "set -- \"$name=\$BUILD_VARIABLE_$name\" \"\$@\""
        unset "BUILD_VARIABLE_$name"
    done
    unset BUILD_VARIABLES
    exec env -- "$@"
)
