#!/usr/bin/env bash
# Runs the suite that lies beside this file. Needs the NVIDIA driver; python3 with PyTorch only for the comparison with it.
#   run.sh [--out DIR] [--device cuda:N|virtual] [--quick] [--only PART,...] [--stop-after SECONDS] [--jobs N] [--cache DIR]
#          [--llama-cpp DIR --llama-model FILE.gguf]
# Each part is a process with a time limit. What fails is noted, and the suite goes on. DIR (gpu-suite-results) then has
# report.json and report.md beside the log of each part; the exit code is 0 if nothing failed.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }
die() { say "gpu-suite: $*"; exit 2; }

groups=(probe ops corpus models bench engine compare)
folder="$(dirname "$(realpath "$0")")"
out="gpu-suite-results"
device="cuda:0"
quick=""
only=""
llama=""
llama_model=""
stop_after=""
jobs=1
cache=""
while [[ $# -gt 0 ]]; do
    case "$1" in
        --quick) quick=1; shift; continue ;;
        -h | --help) sed -n '2,6s/^# //p' "$0"; exit 0 ;;
        --out | --device | --only | --stop-after | --jobs | --cache | --llama-cpp | --llama-model) [[ -n "${2:-}" ]] || die "$1 takes a value" ;;
        *) die "$1 is no flag; see --help" ;;
    esac
    case "$1" in
        --out) out="$2" ;;
        --device) device="$2" ;;
        --only) only="$2" ;;
        --stop-after) stop_after="$2" ;;
        --jobs) jobs="$2" ;;
        --cache) cache="$2" ;;
        --llama-cpp) llama="$2" ;;
        --llama-model) llama_model="$2" ;;
    esac
    shift 2
done
[[ "$device" == virtual || "$device" =~ ^cuda:[0-9]+$ ]] || die "--device $device: there are cuda:N and virtual"
[[ "$stop_after" =~ ^[0-9]*$ ]] || die "--stop-after $stop_after: seconds"
[[ "$jobs" =~ ^[1-9][0-9]?$ ]] || die "--jobs $jobs: how many parts of tests run at a time, 1 to 99"
[[ -z "$llama" || -f "$llama_model" ]] || die "--llama-cpp goes with --llama-model FILE.gguf"
for name in ${only//,/ }; do
    [[ " ${groups[*]} " == *" ${name%%-*} "* ]] || die "--only $name: there are ${groups[*]}, and parts of them"
done
command -v timeout >/dev/null || die "there is no timeout(1), with which parts are stopped"

mkdir -p "$out"
out="$(realpath "$out")"
[[ -e "$out/parts.tsv" || -z "$(ls -A "$out")" ]] || die "$out holds other things; name a new directory"
rm -f "$out"/*.log "$out"/*.json "$out"/*.bits "$out"/*.csv "$out/report.md"
: >"$out/parts.tsv"
# Compiled kernels and all else that is kept between parts.
work="$(mktemp -d "${TMPDIR:-/tmp}/gpu-suite.XXXXXX")"
# Parts that are running end with it.
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
# The first signal alone: another would cut short what is done at the end.
trap 'trap "" INT TERM; exit 130' INT TERM

# Without the compiler of the bundle the machine's own is looked for, as everywhere.
if [[ -z "${STHENO_NVRTC:-}" && -d "$folder/nvrtc" ]]; then
    export STHENO_NVRTC="$folder/nvrtc"
fi
if [[ -n "$cache" ]]; then
    mkdir -p "$cache"
    cache="$(realpath "$cache")"
else
    cache="$work/cache"
fi
export STHENO_TEST_ROOT="$folder/root" STHENO_TEST_CACHE="$cache" XDG_CACHE_HOME="$cache"
export STHENO_VIRTUAL_CUDA="$folder/lib" RUST_BACKTRACE=0
unset STHENO_MODEL STHENO_TEST_RECORD STHENO_TEST_DEVICE
if [[ "$device" == virtual ]]; then
    # For programs that take the system's driver, the virtual one lies in its place.
    mkdir "$work/driver"
    ln -s "$folder/lib/libvirtual_cuda.so" "$work/driver/libcuda.so"
    ln -s "$folder/lib/libvirtual_cuda.so" "$work/driver/libcuda.so.1"
    as_system=(env "LD_LIBRARY_PATH=$work/driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}")
    system_device="cuda:0"
else
    as_system=()
    system_device="$device"
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi -i "${device#cuda:}" --format=csv --query-gpu=name,driver_version,power.limit,clocks.max.sm,clocks.max.mem \
            >"$out/nvidia-smi.csv" || true
    fi
fi

wanted() {
    local name
    [[ -n "$only" ]] || return 0
    for name in ${only//,/ }; do
        [[ "$1" == "$name" || "$1" == "$name"-* ]] && return 0
    done
    return 1
}

# skip NAME KIND REASON
skip() {
    wanted "$1" || return 0
    say "gpu-suite: $1: skipped, $3"
    printf '%s\t%s\tskipped\t0\t%s\n' "$1" "$2" "$3" >>"$out/parts.tsv"
}

# part NAME KIND SECONDS COMMAND...; what `tokens` say on standard output is their JSON. Tests run beside each other, as --jobs
# says; what is measured runs alone.
running=0
part() {
    wanted "$1" || return 0
    if [[ "$jobs" -gt 1 && ("$2" == ops || "$2" == tests) ]]; then
        settle "$((jobs - 1))"
        {
            # Not that of a part before.
            child=""
            trap '[[ -z "$child" ]] || kill "$child"; exit 143' TERM
            run_part "$@"
        } &
        running="$((running + 1))"
    else
        settle 0
        run_part "$@"
    fi
}

# Waits until no more than so many parts run.
settle() {
    while [[ "$running" -gt "$1" ]]; do
        wait -n || true
        running="$((running - 1))"
    done
}

run_part() {
    local name="$1" kind="$2" limit="$3" exit=0 begin end
    shift 3
    if [[ -n "$stop_after" ]]; then
        # SECONDS counts those of this script.
        local left="$((stop_after - SECONDS))"
        if [[ "$left" -lt 1 ]]; then
            skip "$name" "$kind" "--stop-after $stop_after was over"
            return 0
        fi
        limit="$((left < limit ? left : limit))"
    fi
    say "gpu-suite: $name (at most $limit s)"
    local said="$out/$name.log"
    if [[ "$kind" == tokens ]]; then
        said="$out/$name.json"
    fi
    begin="$(date +%s%N)"
    # Both append, so that neither writes over the other. A trap is only heard while bash itself waits.
    timeout --kill-after=10 "$limit" "$@" >>"$said" 2>>"$out/$name.log" </dev/null &
    child="$!"
    wait "$child" || exit=$?
    end="$(date +%s%N)"
    local took="$(((end - begin) / 100000000))"
    printf '%s\t%s\t%s\t%s.%s\t%s\n' "$name" "$kind" "$exit" "$((took / 10))" "$((took % 10))" "$limit" >>"$out/parts.tsv"
    say "gpu-suite: $name: exit $exit after $((took / 10)) s"
}

# In quick runs the first number, else the second.
either() { if [[ -n "$quick" ]]; then printf '%s' "$1"; else printf '%s' "$2"; fi; }

# --- The probe.
probe=("$folder/bin/gpu-probe" --json "$out/probe.json" --device "${system_device#cuda:}")
if [[ -n "$quick" ]]; then
    probe+=(--quick)
fi
if [[ "$device" == virtual ]]; then
    # It takes PTX only, and fewer multiprocessors are sooner done.
    part probe probe 1200 "${as_system[@]}" env VIRTUAL_GPU_SMS=4 "${probe[@]}"
else
    # With several compilers it is not known whose machine code the driver takes before it is asked.
    compilers=("$folder"/nvrtc/libnvrtc.so.*)
    if [[ "${STHENO_NVRTC:-$folder/nvrtc}" == "$folder/nvrtc" && ${#compilers[@]} -eq 1 ]]; then
        probe+=(--cubin-dir "$folder/cubins")
    fi
    part probe probe 600 "${probe[@]}"
fi

# --- Ops: every kernel of the decode program on the device and on the virtual GPU, compared bit by bit and with f64.
# ops NAME TEST-PROGRAM QUICK-TESTS...; what asks only the compiler is left out.
ops() {
    local name="ops-$1" test="$2" choice=(--include-ignored --skip nothing_spills --skip resources)
    shift 2
    if [[ -n "$quick" ]]; then
        choice=(--skip nothing_spills "$@")
    fi
    part "$name" ops "$(either 900 5400)" "${as_system[@]}" env "STHENO_TEST_DEVICE=$system_device" \
        "STHENO_TEST_RECORD=$out/$name.bits" "$folder/tests/$test" --test-threads=1 "${choice[@]}"
}
ops linear linear every_length best_logits strange_logits exponents
ops attention attention norms_and_partial_rotation
ops choose choose
ops sampling device_choice random_cases
ops growth device_growth

# --- The corpus of the virtual GPU.
part corpus tests 900 "${as_system[@]}" env "STHENO_TEST_DEVICE=$system_device" "$folder/tests/corpus" --ignored --nocapture \
    on_device::

# --- Whole models: the host's tokens, guesses, steps, row invariance, sessions. Module by module: after a kernel that failed
# its process has no device any more.
models() {
    local name="$1" limit="$2"
    shift 2
    part "models-$name" tests "$limit" env "STHENO_TEST_DEVICE=$device" "$@" --test-threads=1
}
if [[ -n "$quick" ]]; then
    models fixtures 1800 "$folder/tests/device_engine" logits_are_close chains_and_guesses drafts::
else
    models fixtures 5400 "$folder/tests/device_engine" --include-ignored
fi
modules=(calls ngram stepped tree_rounds)
if [[ -z "$quick" ]]; then
    modules+=(draft_model endings heads rows sampling sessions trees)
fi
for module in "${modules[@]}"; do
    models "$module" "$(either 900 3600)" "$folder/tests/device_behaviour" "$module::"
done
if [[ "$device" == virtual && -n "$quick" ]]; then
    skip models-grids tests "it compares a device with the virtual GPU"
else
    models grids 3600 "$folder/tests/device_behaviour" grids::multiprocessors_change_no_bit
fi
if [[ -e "$STHENO_TEST_ROOT/target/models" && -z "$quick" ]]; then
    models real 3600 "$folder/tests/device_behaviour" --ignored real::smollm2_decodes_as_on_the_host \
        real::smollm2_guesses_change_no_token
else
    skip models-real tests "$(either "it takes a whole model" "the bundle was made without --with-model")"
fi

# --- kernel-bench.
bench() {
    local name="$1" limit="$2"
    shift 2
    part "bench-$name" bench "$limit" "$folder/bin/kernel-bench" run --device "$device" --json "$out/bench-$name.json" "$@"
}
# The cost of rounds is that of whole steps.
accept=(--simulate-accept-len "2,4,6")
if [[ "$device" == virtual && -n "$quick" ]]; then
    bench tiny 900 --shape tiny --format bf16,fp8,int4 --rows 1,8 --context 64 --sms 8 "${accept[@]}"
else
    for shape in llama-3.2-1b llama-3.1-8b; do
        for format in bf16 fp8 int4; do
            bench "$shape-$format" "$(either 900 2400)" --shape "$shape" --format "$format" --op "$(either step,tree-verify,draft all)" \
                --rows "$(either 1,16 1,2,4,8,16,32,64)" --context "$(either 512 512,4096)" "${accept[@]}"
        done
    done
    bench small "$(either 600 1200)" --all-small --rows "$(either 1,8 1,8,16,32,64)"
    if [[ -z "$quick" ]]; then
        bench qwen3-8b-int4 2400 --shape qwen3-8b --format int4 --op all --rows 1,8,16 "${accept[@]}"
    fi
fi

# --- The engine, from prompt to tokens.
engine() {
    local model="$1" format="$2"
    shift 2
    part "engine-$model-$format" tokens 1800 "$folder/bin/generate" bench --random "$model" --format "$format" --device "$device" \
        --json "$@"
}
if [[ "$device" == virtual ]]; then
    engine tiny bf16 -c 128 --prompt-len 16 --gen-len 8 --rows 1 --iterations 1
else
    engine llama-3.2-1b bf16 -c 2048
    engine llama-3.1-8b int4 -c 2048
    if [[ -z "$quick" ]]; then
        engine llama-3.2-1b fp8 -c 2048
        engine llama-3.2-1b int4 -c 2048
        engine llama-3.1-8b bf16 -c 2048
        engine llama-3.1-8b fp8 -c 2048
    fi
fi

# --- Other programs.
if [[ "$device" == virtual ]]; then
    skip compare-pytorch compare "there is no GPU to compare on"
elif python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    pytorch=(python3 "$folder/compare/compare_pytorch.py" --device "$device" --json "$out/compare-pytorch.json")
    if [[ -n "$quick" ]]; then
        pytorch+=(--quick)
    fi
    part compare-pytorch compare 2400 "${pytorch[@]}"
else
    skip compare-pytorch compare "python3 has no PyTorch that sees a GPU"
fi
if [[ -n "$llama" ]]; then
    part compare-llama-bench tokens 1200 "$llama/llama-bench" -m "$llama_model" -ngl 99 -p 512 -n 128 -o json
    part compare-generate tokens 1200 "$folder/bin/generate" bench -m "$llama_model" --device "$device" --json
else
    skip compare-llama-bench tokens "no --llama-cpp was given"
fi

settle 0
report=("$folder/bin/kernel-bench" report "$out" --device "$device")
if [[ -n "$quick" ]]; then
    report+=(--quick)
fi
exit=0
"${report[@]}" || exit=$?
say "gpu-suite: $out/report.md, $out/report.json"
exit "$exit"
