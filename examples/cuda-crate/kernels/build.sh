#!/usr/bin/env bash
# Compiles vector.cu to vector.ptx, which the crate carries. Only needed when vector.cu has changed. The nvcc of an old CUDA
# is best: drivers that are older than the compiler refuse its PTX. (The one here is by NVRTC 12.8, with the same options.)
set -euo pipefail
cd "$(dirname "$0")"
exec nvcc --ptx --generate-line-info --gpu-architecture=compute_80 vector.cu -o vector.ptx
