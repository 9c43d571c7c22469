#!/usr/bin/env bash
# Kernels of other projects on the virtual GPU: installs their compilers (pinned versions, 2 GB unpacked) into a virtual
# environment under target/strangers, has them compile, runs every kernel with all checks under three orders of warps and
# prints a row for each project. Needs python3 3.11 to 3.13 with venv and pip on x86-64 Linux; no GPU, no driver, no CUDA
# toolkit. With --fixtures it also writes the kernels that the repository carries, tests/strangers/kernels, anew.
set -euo pipefail
cd "$(dirname "$0")/.."

target="$(cd .. && mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)/strangers"
python="$target/venv/bin/python"
fixtures=()
case "${1:-}" in
    "") ;;
    --fixtures) fixtures=(tests/strangers/kernels) ;;
    *) echo "strangers: the only option is --fixtures" >&2; exit 2 ;;
esac

# A finished environment carries the list that it was made from.
if ! cmp -s scripts/strangers/requirements.txt "$target/venv/requirements.txt"; then
    echo "strangers: installing compilers into $target/venv" >&2
    rm -rf "$target/venv"
    python3 -m venv "$target/venv"
    "$python" -m pip install --quiet --disable-pip-version-check --requirement scripts/strangers/requirements.txt
    cp scripts/strangers/requirements.txt "$target/venv/requirements.txt"
fi

echo "strangers: compiling into $target/kernels" >&2
rm -rf "$target/kernels"
TRITON_CACHE_DIR="$target/triton" TRITON_DEFAULT_FP_FUSION=1 \
    "$python" scripts/strangers/make.py "$target/kernels" "${fixtures[@]}"

STRANGERS="$target/kernels" exec cargo test -p virtual-gpu --test corpus -- --ignored --exact --nocapture \
    strangers::every_stranger_runs
