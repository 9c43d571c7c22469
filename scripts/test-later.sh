#!/usr/bin/env bash
# What cargo runs test programs with when test.sh does: puts the program on the list of those to run, as a script with cargo's
# environment and folder, and is done.
set -euo pipefail
{
    export -p
    printf 'cd %q\nexec' "$PWD"
    printf ' %q' "$@"
    printf '\n'
} >"$STHENO_TEST_LIST/$(basename "$1")"
