#!/usr/bin/env bash
# Makes the drafts under heads/: scripts/train-heads.sh PROMPTS.jsonl [WORK_DIR]
# Lets SmolLM2-135M-Instruct answer prompts, and trains an EAGLE-3 layer and Medusa heads on the answers. Takes hours on 2
# cores, and 12 GB of disk (WORK_DIR, target/train by default); run it again after a stop, and it goes on. The drafts in the
# repository are of a run whose first step was stopped at 6952 conversations.
set -euo pipefail
cd "$(dirname "$0")/.."

prompts="${1:?usage: scripts/train-heads.sh PROMPTS.jsonl [WORK_DIR]}"
work="${2:-target/train}"
name="SmolLM2-135M-Instruct"
data="Answers of the target itself, half of them greedy and the rest at temperatures 0.7 and 1, to prompts of GSM8K's training split (MIT), \
self-instruct's seed tasks and its sample of P3 (Apache-2.0)."

say() { printf '\n== %s\n' "$*" >&2; }

say "the model"
model="$(scripts/fetch-model.sh)"
say "building"
cargo build --release -p stheno-train --features fast
train=target/release/stheno-train
mkdir -p "$work"

say "answers"
"$train" resample -m "$model" --prompts "$prompts" -o "$work/answers" --num-prompts 10000 -n 200 --max-prompt-tokens 384 \
    --temperatures 0:0.5,0.7:0.25,1:0.25 --parallel 64 --seed 1
say "hidden states"
"$train" features -m "$model" --answers "$work/answers" -o "$work/features" --max-len 768

common=(-m "$model" --features "$work/features" --draft-vocab-size 4096 --seed 1 --resume
    --base-model "HuggingFaceTB/$name" --license apache-2.0 --data "$data")
say "EAGLE-3"
"$train" eagle3 "${common[@]}" -o "heads/$name-EAGLE3" --run-dir "$work/eagle3" --num-key-value-heads 9 --steps 4 \
    --compute-dtype bf16 --batch-size 8 --later-share 0.34 --learning-rate 1e-3 --warmup-steps 60 --epochs 4
say "Medusa"
"$train" medusa "${common[@]}" -o "heads/$name-Medusa" --run-dir "$work/medusa" --heads 3 --soft-targets \
    --compute-dtype bf16 --batch-size 8 --learning-rate 1e-3 --warmup-steps 60 --epochs 3
