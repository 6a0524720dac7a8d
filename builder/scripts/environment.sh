# with_environment COMMAND...: runs it with the variables that the project says, whose names are in $BUILD_VARIABLES.
# Nothing else sees them: a variable may have the name of one of these scripts'. With $BUILD_AGAIN much is otherwise that
# must make no difference.
with_environment() (
    if [ -n "${BUILD_AGAIN:-}" ]; then
        umask 002
        # A day ahead of another machine's, without a file of time zones.
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
