# with_environment COMMAND...: runs it with the variables that the project says, whose names are in $BUILD_VARIABLES.
# Nothing else sees them: a variable may have the name of one of these scripts'.
with_environment() (
    for name in $BUILD_VARIABLES; do
        eval "set -- \"$name=\$BUILD_VARIABLE_$name\" \"\$@\""
        unset "BUILD_VARIABLE_$name"
    done
    unset BUILD_VARIABLES
    exec env -- "$@"
)
