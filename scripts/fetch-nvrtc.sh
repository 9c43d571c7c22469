#!/usr/bin/env bash
# Puts NVRTC 13.5 (NVIDIA's CUDA compiler library; 58 MB fetched, 148 MB unpacked) under target/nvrtc, out of the wheel
# that NVIDIA publishes for Python. Needs python3 with pip, x86-64 Linux, and neither a GPU nor a CUDA toolkit. Fetches
# nothing that is there already; prints the directory on standard output and everything else on standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

package="nvidia-cuda-nvrtc==13.5.37"
wheel="nvidia_cuda_nvrtc-13.5.37-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl"
wheel_sha256="86b4d68058807988b7d9af5b44917a0601e9c337f35ccd657bfb3c759ff8d8bc"
libraries=(libnvrtc.so.13 libnvrtc-builtins.so.13.5)

target="${CARGO_TARGET_DIR:-target}"
directory="$target/nvrtc"

say() { printf '%s\n' "$*" >&2; }
die() { say "fetch-nvrtc: $*"; exit 1; }

# The directory is moved into place whole, so that a library in it is a library that was verified.
if [[ -f "$directory/${libraries[0]}" && -f "$directory/${libraries[1]}" ]]; then
    say "nvrtc: $directory (already there)"
    printf '%s\n' "$directory"
    exit 0
fi
[[ ! -e "$directory" ]] || die "$directory is there without ${libraries[*]}; delete it and run again"

[[ "$(uname -s)-$(uname -m)" == Linux-x86_64 ]] \
    || die "the wheel is for x86-64 Linux; install NVRTC another way and set STHENO_NVRTC"
command -v python3 >/dev/null || die "python3 is not on the path; it is needed to fetch NVRTC"
python3 -m pip --version >/dev/null 2>&1 || die "python3 has no pip; install it (python3 -m ensurepip) and run again"
mkdir -p "$target"

work="$(mktemp -d "$target/.fetch-nvrtc.XXXXXX")"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

say "nvrtc: fetching $package with pip (58 MB)"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$package" \
    >&2 \
    || die "pip could not download $package"
[[ -f "$work/$wheel" ]] || die "pip downloaded no $wheel"

# Python hashes and unzips, because pip is needed anyway and neither sha256sum nor unzip is on every machine.
say "nvrtc: unpacking ${libraries[*]}"
mkdir "$work/nvrtc"
python3 - "$work/$wheel" "$wheel_sha256" "$work/nvrtc" "${libraries[@]}" <<'PY' || die "not using $wheel"
import hashlib, os, shutil, sys, zipfile
wheel, expected, directory, *libraries = sys.argv[1:]
digest = hashlib.sha256()
with open(wheel, "rb") as file:
    while block := file.read(1 << 20):
        digest.update(block)
if digest.hexdigest() != expected:
    sys.exit(f"{os.path.basename(wheel)} has the wrong hash, {digest.hexdigest()}")
with zipfile.ZipFile(wheel) as archive:
    for library in libraries:
        with archive.open(f"nvidia/cu13/lib/{library}") as source, open(os.path.join(directory, library), "wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
PY
mv "$work/nvrtc" "$directory"
say "nvrtc: $directory"
printf '%s\n' "$directory"
