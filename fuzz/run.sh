#!/bin/sh
# Runs every fuzz target: fuzz/run.sh [SECONDS EACH] [TARGET...]. Needs cargo-fuzz (cargo install cargo-fuzz).
# What was found is below fuzz/artifacts; a target that found something fails.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-600}
[ $# = 0 ] || shift
if [ $# = 0 ]; then
    for target in fuzz/targets/*.rs; do set -- "$@" "$(basename "$target" .rs)"; done
fi
cargo fuzz --version > /dev/null 2>&1 || {
    echo "run.sh: there is no cargo-fuzz: cargo install cargo-fuzz" >&2
    exit 1
}
command -v c++ > /dev/null || {
    echo "run.sh: there is no C++ compiler, which libFuzzer is built with: apt-get install g++" >&2
    exit 1
}
fuzz/seeds.py fuzz/corpus
failed=
# The sanitizer's options are nightly's; a stable compiler takes them where it is told to.
export RUSTC_BOOTSTRAP=1
for name in "$@"; do
    echo "== $name"
    cargo fuzz run "$name" -- -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=20 -print_final_stats=1 || failed="$failed $name"
done
[ -z "$failed" ] || {
    echo "run.sh: found something:$failed" >&2
    exit 1
}
