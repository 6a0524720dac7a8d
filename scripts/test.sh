#!/bin/sh
# Runs every test and counts how many used the real engine and the real package managers. Under
# CI=true a skipped test fails.
set -eu
cd "$(dirname "$0")/.."
cargo_test() { # cargo_test WORD...
    cargo test --workspace --locked "$@"
}
# The tests of the whole command, `it`, spend much of their time waiting for an engine or a disk. The libraries'
# own, whose names are longer, are run beside them and shown after them.
if [ "${1:-}" = libraries ]; then
    cargo_test --no-fail-fast --lib --bins --test '???*'
    exit
elif [ "${1:-}" = compile ]; then
    cargo_test --no-run
    exit
fi

scratch=$(mktemp -d)
TWOSTAGE_TEST_COUNTS=$scratch/counts
TWOSTAGE_TEST_ERRORS=$scratch/errors
export TWOSTAGE_TEST_COUNTS TWOSTAGE_TEST_ERRORS
: > "$TWOSTAGE_TEST_COUNTS"
: > "$TWOSTAGE_TEST_ERRORS"
started=$(date +%s)
# What runs beside this is a session of its own, so that all of it can be ended.
beside=
trap '[ -z "$beside" ] || kill -- "-$beside" 2> /dev/null || :; rm -rf "$scratch"' EXIT

# Rust comes without rustfmt in its smallest form.
if cargo fmt --version > /dev/null 2>&1; then cargo fmt --all --check; else echo "test.sh: there is no rustfmt, so the format is not checked"; fi
# What one run builds, no other needs; and where a test fails it says without a debugger's tables.
[ "${CI:-}" != true ] || export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
# The tests compile while what they need is installed. Docker and Podman are judges in them, so both are, and Docker is
# started. It starts small programs by the thousand; without Go's collector, but with a bound, each takes a quarter less.
setsid scripts/test.sh compile &
beside=$!
TWOSTAGE_ENGINE=docker GOGC=off GOMEMLIMIT=512MiB scripts/setup.sh engine tests ${TWOSTAGE_TESTS:+long}
wait "$beside"
RUST_TEST_THREADS=$(nproc) setsid scripts/test.sh libraries > "$scratch/libraries" 2>&1 &
beside=$!
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$(($(nproc) + 2))}"
# (tee would hide cargo's exit status.)
{ cargo_test --test it 2>&1 || touch "$scratch/failed"; } | tee "$scratch/it"
wait "$beside" || touch "$scratch/failed"
beside=
cat "$scratch/libraries"

count() { grep -c "^$1\$" "$TWOSTAGE_TEST_COUNTS" || :; }
skipped=$(count skipped)
echo
echo "tests that used a real engine: $(count engine)"
echo "tests that used a real apt: $(count apt)"
echo "tests that used a real dnf: $(count dnf)"
echo "tests that used a real zypper: $(count zypper)"
echo "tests left to \`make test-all\`, or shorter here than there: $(count short)"
echo "tests skipped for want of a tool: $skipped"
sed -n 's/^said //p' "$TWOSTAGE_TEST_COUNTS"
passed=$(awk '/^test result:/ { passed += $4; failed += $6 } END { print passed + 0 " passed, " failed + 0 " failed" }' "$scratch/it" "$scratch/libraries")
# What went wrong on purpose, for people: whether each hint follows from its cause, no program can say.
errors=${CARGO_TARGET_DIR:-target}/errors.md
{ printf '| status | what | why | hint |\n|---|---|---|---|\n'; LC_ALL=C sort -u "$TWOSTAGE_TEST_ERRORS"; } > "$errors"
echo "errors that the tests caused, with their hints: $(LC_ALL=C sort -u "$TWOSTAGE_TEST_ERRORS" | wc -l), in $errors"
seconds=$(($(date +%s) - started))
echo "$passed, $skipped skipped, in $((seconds / 60)) min $((seconds % 60)) s"
[ ! -e "$scratch/failed" ] || exit 1
if [ "${CI:-}" = true ] && { [ "$skipped" != 0 ] || [ "$(count engine)" -lt 20 ] || [ "$(count apt)" -lt 10 ] ||
    [ "$(count dnf)" -lt 10 ] || [ "$(count zypper)" -lt 5 ]; }; then
    echo "test.sh: in CI nothing may be skipped, and at least 20 tests use an engine, 10 apt, 10 dnf, 5 zypper" >&2
    exit 1
fi
