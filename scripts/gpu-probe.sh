#!/usr/bin/env bash
# The GPU probe without Rust on the GPU machine.
#   scripts/gpu-probe.sh --bundle DIR      makes DIR: the program, compiled kernels, run.sh. Needs Rust and NVRTC, no GPU.
#   scripts/gpu-probe.sh [FLAGS]           makes target/gpu-probe likewise and runs it here with FLAGS (see gpu-probe/README.md).
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }
die() { say "gpu-probe: $*"; exit 1; }

bundle=""
if [[ "${1:-}" == --bundle ]]; then
    [[ $# -eq 2 && -n "$2" ]] || die "--bundle takes one directory and nothing else"
    bundle="$(realpath -m -- "$2")"
    shift 2
fi
# A report belongs where the caller is.
here="$PWD"
cd "$(dirname "$0")/.."
target="$(realpath -m -- "${CARGO_TARGET_DIR:-target}")"
folder="${bundle:-$target/gpu-probe}"
[[ -z "$bundle" || ! -e "$bundle" || -f "$bundle/gpu-probe" || -z "$(ls -A "$bundle")" ]] \
    || die "$bundle holds other things; name a new directory"

command -v cargo >/dev/null || die "cargo is not on the path; make a bundle on a machine with Rust and run its run.sh here"
say "gpu-probe: building"
cargo build --release --quiet -p gpu-probe
mkdir -p "$folder"
install -m 755 "$target/release/gpu-probe" "$folder/gpu-probe"
say "gpu-probe: compiling the kernels for six architectures"
"$folder/gpu-probe" --write-cubins "$folder/cubins" > "$folder/registers.txt"
cat > "$folder/run.sh" <<'RUN'
#!/usr/bin/env bash
# Runs the probe with the kernels beside it. Needs the NVIDIA driver and nothing else. Flags: --list, --quick, --only, --json ...
set -euo pipefail
folder="$(dirname "$(realpath "$0")")"
exec "$folder/gpu-probe" --cubin-dir "$folder/cubins" "$@"
RUN
chmod 755 "$folder/run.sh"

if [[ -n "$bundle" ]]; then
    say "gpu-probe: $bundle is complete: take it to the GPU machine and run its run.sh there"
else
    cd "$here"
    exec "$folder/run.sh" "$@"
fi
