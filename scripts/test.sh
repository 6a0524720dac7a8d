#!/bin/sh
# Runs every test and counts how many used the real engine and the real package managers. Under
# CI=true a skipped test fails.
set -eu
cd "$(dirname "$0")/.."
TWOSTAGE_TEST_COUNTS=$(mktemp)
export TWOSTAGE_TEST_COUNTS
log=$(mktemp)
started=$(date +%s)
trap 'rm -f "$TWOSTAGE_TEST_COUNTS" "$log"' EXIT

# Rust comes without rustfmt in its smallest form.
if cargo fmt --version > /dev/null 2>&1; then cargo fmt --all --check; else echo "test.sh: there is no rustfmt, so the format is not checked"; fi
# What one run builds, no other needs.
[ "${CI:-}" != true ] || export CARGO_INCREMENTAL=0
# Most of a test is waiting for an engine or a disk.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) + 2))}
export RUST_TEST_THREADS
# (tee would hide cargo's exit status.)
status=0
{ cargo test --workspace --features registry --locked --no-fail-fast 2>&1 || echo $? > "$log.status"; } | tee "$log"
if [ -e "$log.status" ]; then
    status=$(cat "$log.status")
    rm -f "$log.status"
fi

count() { grep -c "^$1\$" "$TWOSTAGE_TEST_COUNTS" || :; }
skipped=$(count skipped)
echo
echo "tests that used a real engine: $(count engine)"
echo "tests that used a real apt: $(count apt)"
echo "tests that used a real dnf: $(count dnf)"
echo "tests that used a real zypper: $(count zypper)"
echo "tests skipped for want of a tool: $skipped"
passed=$(awk '/^test result:/ { passed += $4; failed += $6 } END { print passed + 0 " passed, " failed + 0 " failed" }' "$log")
seconds=$(($(date +%s) - started))
echo "$passed, $skipped skipped, in $((seconds / 60)) min $((seconds % 60)) s"
[ "$status" = 0 ] || exit "$status"
if [ "${CI:-}" = true ] && { [ "$skipped" != 0 ] || [ "$(count engine)" -lt 20 ] || [ "$(count apt)" -lt 10 ] ||
    [ "$(count dnf)" -lt 10 ] || [ "$(count zypper)" -lt 5 ]; }; then
    echo "test.sh: in CI nothing may be skipped, and at least 20 tests use an engine, 10 apt, 10 dnf, 5 zypper" >&2
    exit 1
fi
