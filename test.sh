#!/usr/bin/env bash
# Formatting, lints and documentation with warnings as errors, every test, doc tests. Safe to run twice. Fetches the small real model that
# some tests run (98 MB) and NVRTC (58 MB), NVIDIA's compiler library, if they are not there. With --long also what takes minutes a
# test: the real model on the virtual GPU, plain, with guesses and with trees, and every shape and draft of trees.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf '\n== %s\n' "$*"; }

say "formatting"
cargo fmt --all --check
say "clippy"
cargo clippy --workspace --all-targets --quiet -- -D warnings
say "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
say "the model"
scripts/fetch-model.sh >/dev/null
say "NVRTC"
scripts/fetch-nvrtc.sh >/dev/null
say "tests"
scripts/run-tests.sh
say "doc tests"
cargo test --workspace --doc --quiet
if [[ "${1-}" == --long ]]; then
    say "long tests"
    cargo test --release --test device_behaviour -- --ignored
fi
