"""Kernels with `nvcuda::wmma`, by NVRTC."""

from pathlib import Path

import numpy as np
import nvidia.cu13
from cuda.bindings import nvrtc

from case import Bf16, Case

SOURCE = r"""
#include <mma.h>
#include <cuda_bf16.h>
using namespace nvcuda;

// c = 2 a b + c by tiles of 16 by 16, a warp to each: the accumulators start from zero, are doubled, and c is added.
template <typename T, typename C, typename Memory, int K, typename LayoutA, typename LayoutB>
__device__ void multiply(const Memory* a, const Memory* b, C* c, int n, int k, int lda, int ldb, wmma::layout_t layout) {
    wmma::fragment<wmma::matrix_a, 16, 16, K, T, LayoutA> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, K, T, LayoutB> fb;
    wmma::fragment<wmma::accumulator, 16, 16, K, C> sum, old;
    int row = blockIdx.y * 16, column = blockIdx.x * 16;
    constexpr bool a_rows = std::is_same<LayoutA, wmma::row_major>::value, b_rows = std::is_same<LayoutB, wmma::row_major>::value;
    wmma::fill_fragment(sum, C(0));
    for (int step = 0; step < k; step += K) {
        wmma::load_matrix_sync(fa, a + (a_rows ? row * lda + step : step * lda + row), lda);
        wmma::load_matrix_sync(fb, b + (b_rows ? step * ldb + column : column * ldb + step), ldb);
        for (int i = 0; i < fa.num_elements; i++) fa.x[i] = fa.x[i] + fa.x[i];
        wmma::mma_sync(sum, fa, fb, sum);
    }
    C* tile = layout == wmma::mem_row_major ? c + row * n + column : c + column * n + row;
    wmma::load_matrix_sync(old, tile, n, layout);
    for (int i = 0; i < sum.num_elements; i++) sum.x[i] = sum.x[i] + old.x[i];
    wmma::store_matrix_sync(tile, sum, n, layout);
}
using rows = wmma::row_major;
using columns = wmma::col_major;

extern "C" __global__ void f16_f32(const __half* a, const __half* b, float* c, int n, int k) {
    multiply<__half, float, __half, 16, rows, rows>(a, b, c, n, k, k, n, wmma::mem_row_major);
}
extern "C" __global__ void f16_columns(const __half* a, const __half* b, __half* c, int n, int k) {
    multiply<__half, __half, __half, 16, columns, columns>(a, b, c, n, k, n, k, wmma::mem_col_major);
}
extern "C" __global__ void bf16_f32(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int n, int k) {
    multiply<__nv_bfloat16, float, __nv_bfloat16, 16, rows, columns>(a, b, c, n, k, k, k, wmma::mem_row_major);
}
extern "C" __global__ void tf32_f32(const float* a, const float* b, float* c, int n, int k) {
    multiply<wmma::precision::tf32, float, float, 8, columns, rows>(a, b, c, n, k, n, n, wmma::mem_col_major);
}
extern "C" __global__ void s8_s32(const signed char* a, const signed char* b, int* c, int n, int k) {
    multiply<signed char, int, signed char, 16, rows, columns>(a, b, c, n, k, k, k, wmma::mem_row_major);
}
extern "C" __global__ void u8_s32(const unsigned char* a, const unsigned char* b, int* c, int n, int k) {
    multiply<unsigned char, int, unsigned char, 16, columns, rows>(a, b, c, n, k, n, n, wmma::mem_row_major);
}

// Through shared memory, whose addresses have 32 bits.
extern "C" __global__ void shared_tiles(const __half* a, const __half* b, float* c) {
    __shared__ __align__(32) __half sa[256], sb[256];
    __shared__ __align__(32) float sc[256];
    for (int i = threadIdx.x; i < 256; i += 32) { sa[i] = a[i]; sb[i] = b[i]; }
    __syncthreads();
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, rows> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, rows> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
    wmma::fill_fragment(sum, 1.0f);
    wmma::load_matrix_sync(fa, sa, 16);
    wmma::load_matrix_sync(fb, sb, 16);
    wmma::mma_sync(sum, fa, fb, sum);
    wmma::store_matrix_sync(sc, sum, 16, wmma::mem_row_major);
    __syncthreads();
    for (int i = threadIdx.x; i < 256; i += 32) c[i] = sc[i];
}
"""


def compiled(name):
    """The PTX of the source with one kernel."""
    include = Path(next(iter(nvidia.cu13.__path__))) / "include"
    head, *kernels = SOURCE.split('extern "C" __global__ void ')
    kernel = next(text for text in kernels if text.startswith(f"{name}(")).split("\n//")[0]
    text = "namespace std { template <class A, class B> struct is_same { static constexpr bool value = false; };\n"
    text += "template <class A> struct is_same<A, A> { static constexpr bool value = true; }; }\n"
    text += f'{head}extern "C" __global__ void {kernel}'
    error, program = nvrtc.nvrtcCreateProgram(text.encode(), b"wmma.cu", 0, [], [])
    options = [b"--gpu-architecture=compute_80", f"-I{include}".encode(), f"-I{include}/cccl".encode()]
    (error,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = bytes(size)
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(log.decode()[:3000])
    _, size = nvrtc.nvrtcGetPTXSize(program)
    ptx = bytes(size)
    nvrtc.nvrtcGetPTX(program, ptx)
    return ptx.decode().rstrip("\0")


def numbers(shape, seed, dtype=np.float32):
    """Numbers of few binary digits around zero."""
    return (np.random.default_rng(seed).integers(-16, 17, shape) / 16).astype(dtype)


def cases():
    """Every kernel; n is both the rows of A and the columns of B."""
    n, k = 32, 32
    whole = np.random.default_rng(9)
    layouts = {"f16_f32": "rrr", "f16_columns": "ccc", "bf16_f32": "rcr", "tf32_f32": "crc", "s8_s32": "rcr", "u8_s32": "crr"}
    for name, (la, lb, lc) in layouts.items():
        if name.endswith("s32"):
            low, high, kind = (-128, 128, np.int8) if name[0] == "s" else (0, 256, np.uint8)
            a, b = (whole.integers(low, high, shape).astype(kind) for shape in ((n, k), (k, n)))
            # Elements of A are doubled in 8 bits.
            doubled, c = (a + a).astype(kind), whole.integers(-999, 999, (n, n)).astype(np.int32)
            want = (doubled.astype(np.int64) @ b.astype(np.int64) + c).astype(np.int32)
        else:
            a, b = numbers((n, k), 1), numbers((k, n), 2)
            c = numbers((n, n), 3, np.float16 if name == "f16_columns" else np.float32)
            want = (2 * a.astype(float) @ b + c).astype(c.dtype)
        lay = lambda values, how: np.ascontiguousarray(values if how == "r" else values.T)
        store = Bf16 if name == "bf16_f32" else lambda x: x.astype(np.float16) if name.startswith("f16") else x
        case = Case(name, compiled(name), name, [n // 16, n // 16], [32])
        case.input(store(lay(a, la)))
        case.input(store(lay(b, lb)))
        near = {} if name.endswith("s32") else {"absolute": 2e-2 if name == "f16_columns" else 1e-4}
        case.update(lay(c, lc), lay(want, lc), **near)
        case.scalar("i32", n)
        case.scalar("i32", k)
        yield case
    a, b = numbers((16, 16), 4, np.float16), numbers((16, 16), 5, np.float16)
    case = Case("shared_tiles", compiled("shared_tiles"), "shared_tiles", [1], [32])
    case.input(a)
    case.input(b)
    case.output((a.astype(float) @ b + 1).astype(np.float32), absolute=1e-5)
    yield case
