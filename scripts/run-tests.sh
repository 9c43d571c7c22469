#!/usr/bin/env bash
# Every test of the workspace, several test programs at a time: many wait for their one virtual GPU, or have a single test, and
# cargo runs program after program. Says what each took and came to, and all that those said which failed. Arguments go to cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

# Those that take longest come first: else they would run alone at the end.
longest="device_behaviour pipeline linear cli_kernel_bench device_engine speculation_lossless attention"
processors=$(getconf _NPROCESSORS_ONLN)
at_a_time=$((processors / 4 > 2 ? processors / 4 : 2))

if [[ "${1-}" == --one ]]; then
    name=$(basename "$2") start=$SECONDS
    status=0
    bash "$2" >"$2.out" 2>&1 || status=$?
    if [[ $status != 0 ]]; then
        # One at a time, whole.
        flock "$(dirname "$2")" cat "$2.out"
        printf 'FAILED %s: status %s\n' "${name%-*}" "$status"
        exit 1
    fi
    result=$(grep -E '^(running [0-9]+ tests?|test result: .*)$' "$2.out" || true)
    # Programs that have none are many.
    if [[ "$result" != "running 0 tests"* ]]; then
        printf '%s, %d s\n%s\n' "${name%-*}" $((SECONDS - start)) "$result"
    fi
    exit
fi

STHENO_TEST_LIST=$(mktemp -d)
export STHENO_TEST_LIST
trap 'rm -rf "$STHENO_TEST_LIST"' EXIT
cargo test --workspace --all-targets --quiet --config "target.'cfg(all())'.runner = '$PWD/scripts/test-later.sh'" "$@"

programs=("$STHENO_TEST_LIST"/*)
for name in $longest; do
    for program in "${programs[@]}"; do
        [[ "$(basename "$program")" == "$name"-* ]] && printf '%s\n' "$program"
    done
done >"$STHENO_TEST_LIST/order"
printf '%s\n' "${programs[@]}" >>"$STHENO_TEST_LIST/order"
awk '!seen[$0]++' "$STHENO_TEST_LIST/order" | xargs -P "$at_a_time" -n 1 scripts/run-tests.sh --one
