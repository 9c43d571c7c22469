#!/usr/bin/env bash
# Everything that this project asks of a GPU, without Rust on the GPU machine (docs/gpu-suite.md).
#   scripts/gpu-suite.sh --bundle DIR [--with-model]   makes DIR: programs, kernels, compiler, fixtures, run.sh. Needs Rust and
#                                                      NVRTC, no GPU.
#   scripts/gpu-suite.sh [FLAGS]                       makes target/gpu-suite likewise and runs it here; run.sh has the flags.
# STHENO_NVRTC names a folder with other versions of NVRTC than the one that scripts/fetch-nvrtc.sh fetches.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }
die() { say "gpu-suite: $*"; exit 1; }

bundle=""
with_model=""
if [[ "${1:-}" == --bundle ]]; then
    [[ $# -ge 2 && -n "$2" ]] || die "--bundle takes a directory"
    bundle="$(realpath -m -- "$2")"
    shift 2
    if [[ "${1:-}" == --with-model ]]; then
        with_model=1
        shift
    fi
    [[ $# -eq 0 ]] || die "--bundle DIR goes with --with-model and nothing else"
fi
# Results belong where the caller is.
here="$PWD"
cd "$(dirname "$0")/.."
target="$(realpath -m -- "${CARGO_TARGET_DIR:-target}")"
folder="${bundle:-$target/gpu-suite}"
[[ -z "$bundle" || ! -e "$bundle" || -f "$bundle/bin/kernel-bench" || -z "$(ls -A "$bundle")" ]] \
    || die "$bundle holds other things; name a new directory"
command -v cargo >/dev/null || die "cargo is not on the path; make a bundle on a machine with Rust and run its run.sh here"

say "gpu-suite: building the programs"
cargo build --release --quiet -p gpu-probe -p virtual-gpu-cuda
cargo build --release --quiet --bin generate --bin kernel-bench
say "gpu-suite: building the tests"
# Lines like: Executable tests/corpus/main.rs (target/debug/deps/corpus-0123456789abcdef)
built="$(
    {
        cargo test --no-run -p stheno --test device_engine --test device_behaviour --test device_choice --test device_growth
        cargo test --no-run -p stheno-kernels --test linear --test attention --test choose
        cargo test --no-run -p virtual-gpu --test corpus
    } 2>&1
)" || { say "$built"; die "the tests do not build"; }

mkdir -p "$folder/bin" "$folder/lib" "$folder/nvrtc" "$folder/tests" "$folder/compare" "$folder/root/tests/fixtures" \
    "$folder/root/virtual-gpu/tests/corpus"
for program in gpu-probe kernel-bench generate; do
    install -m 755 "$target/release/$program" "$folder/bin/$program"
done
install -m 755 "$target/release/libvirtual_cuda.so" "$folder/lib/libvirtual_cuda.so"
while read -r test; do
    name="$(basename "$test")"
    install -m 755 "$test" "$folder/tests/${name%-*}"
done < <(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' <<<"$built")
for test in device_engine device_behaviour device_choice device_growth linear attention choose corpus; do
    [[ -x "$folder/tests/$test" ]] || { say "$built"; die "cargo names no executable of the test $test"; }
done
if command -v strip >/dev/null; then
    strip --strip-debug "$folder"/bin/* "$folder"/tests/* "$folder"/lib/*
fi

nvrtc="${STHENO_NVRTC:-$(scripts/fetch-nvrtc.sh)}"
[[ -d "$nvrtc" ]] || die "STHENO_NVRTC must be a folder here: $nvrtc"
cp -L "$nvrtc"/libnvrtc*.so* "$folder/nvrtc/"
say "gpu-suite: compiling the probe's kernels for six architectures"
"$folder/bin/gpu-probe" --write-cubins "$folder/cubins" --nvrtc "$folder/nvrtc" >"$folder/cubins.txt"

cp -R tests/fixtures/models "$folder/root/tests/fixtures/"
cp -R tests/fixtures/drafts "$folder/root/tests/fixtures/"
cp -R tests/fixtures/real "$folder/root/tests/fixtures/"
cp -R virtual-gpu/tests/corpus/kernels "$folder/root/virtual-gpu/tests/corpus/"
if [[ -n "$with_model" ]]; then
    mkdir -p "$folder/root/target/models"
    cp -L "$(scripts/fetch-model.sh)" "$folder/root/target/models/"
fi
install -m 644 benches/compare_pytorch.py "$folder/compare/compare_pytorch.py"
install -m 755 scripts/gpu-suite-run.sh "$folder/run.sh"

if [[ -n "$bundle" ]]; then
    say "gpu-suite: $bundle is complete ($(du -sh "$bundle" | cut -f 1)): take it to the GPU machine and run its run.sh there"
else
    cd "$here"
    exec "$folder/run.sh" "$@"
fi
