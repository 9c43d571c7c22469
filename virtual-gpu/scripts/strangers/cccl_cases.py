"""Kernels with NVIDIA's libraries of device code: CUB, libcu++, cooperative groups, half precision. NVRTC compiles them."""

from pathlib import Path

import numpy as np
import nvidia.cu13
from cuda.bindings import nvrtc

from case import Case, numbers

SOURCE = r"""
#include <cub/block/block_histogram.cuh>
#include <cub/block/block_load.cuh>
#include <cub/block/block_merge_sort.cuh>
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cub/block/block_store.cuh>
#include <cub/warp/warp_scan.cuh>
#include <cub/warp/warp_reduce.cuh>
#include <cuda/atomic>
#include <cuda/barrier>
#include <cuda/std/array>
#include <cuda/std/complex>
#include <cuda_fp16.h>
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
#include <cooperative_groups/memcpy_async.h>

namespace cg = cooperative_groups;

template <cub::BlockScanAlgorithm algorithm>
__device__ void scan(const int* x, int* out, int* total) {
    using Load = cub::BlockLoad<int, 128, 4, cub::BLOCK_LOAD_TRANSPOSE>;
    using Store = cub::BlockStore<int, 128, 4, cub::BLOCK_STORE_TRANSPOSE>;
    using Scan = cub::BlockScan<int, 128, algorithm>;
    __shared__ union { typename Load::TempStorage load; typename Store::TempStorage store; typename Scan::TempStorage scan; } temp;
    int items[4], sum;
    Load(temp.load).Load(x + blockIdx.x * 512, items);
    __syncthreads();
    Scan(temp.scan).ExclusiveSum(items, items, sum);
    __syncthreads();
    Store(temp.store).Store(out + blockIdx.x * 512, items);
    if (threadIdx.x == 0) total[blockIdx.x] = sum;
}
extern "C" __global__ void scan_raking(const int* x, int* out, int* total) { scan<cub::BLOCK_SCAN_RAKING>(x, out, total); }
extern "C" __global__ void scan_warps(const int* x, int* out, int* total) { scan<cub::BLOCK_SCAN_WARP_SCANS>(x, out, total); }

template <cub::BlockReduceAlgorithm algorithm>
__device__ void reduce(const float* x, float* out, int n) {
    using Reduce = cub::BlockReduce<float, 256, algorithm>;
    __shared__ typename Reduce::TempStorage temp;
    int i = blockIdx.x * 256 + threadIdx.x;
    float sum = Reduce(temp).Sum(i < n ? x[i] : 0.0f);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}
extern "C" __global__ void reduce_raking(const float* x, float* out, int n) { reduce<cub::BLOCK_REDUCE_RAKING>(x, out, n); }
extern "C" __global__ void reduce_warps(const float* x, float* out, int n) { reduce<cub::BLOCK_REDUCE_WARP_REDUCTIONS>(x, out, n); }

extern "C" __global__ void radix_sort(const unsigned* keys, const int* values, unsigned* sorted, int* moved) {
    using Sort = cub::BlockRadixSort<unsigned, 128, 4, int>;
    __shared__ typename Sort::TempStorage temp;
    unsigned k[4];
    int v[4];
    cub::LoadDirectBlocked(threadIdx.x, keys + blockIdx.x * 512, k);
    cub::LoadDirectBlocked(threadIdx.x, values + blockIdx.x * 512, v);
    Sort(temp).SortBlockedToStriped(k, v);
    cub::StoreDirectStriped<128>(threadIdx.x, sorted + blockIdx.x * 512, k);
    cub::StoreDirectStriped<128>(threadIdx.x, moved + blockIdx.x * 512, v);
}

struct Less { __device__ bool operator()(float a, float b) const { return a < b; } };

extern "C" __global__ void merge_sort(const float* keys, float* sorted) {
    using Sort = cub::BlockMergeSort<float, 128, 3>;
    __shared__ typename Sort::TempStorage temp;
    float k[3];
    cub::LoadDirectBlocked(threadIdx.x, keys, k);
    Sort(temp).Sort(k, Less());
    cub::StoreDirectBlocked(threadIdx.x, sorted, k);
}

extern "C" __global__ void block_histogram(const unsigned char* x, unsigned* counts) {
    using Histogram = cub::BlockHistogram<unsigned char, 128, 4, 64, cub::BLOCK_HISTO_SORT>;
    __shared__ typename Histogram::TempStorage temp;
    __shared__ unsigned bins[64];
    unsigned char items[4];
    cub::LoadDirectStriped<128>(threadIdx.x, x, items);
    Histogram(temp).Histogram(items, bins);
    __syncthreads();
    if (threadIdx.x < 64) counts[threadIdx.x] = bins[threadIdx.x];
}

extern "C" __global__ void warp_scan(const double* x, double* out) {
    using Scan = cub::WarpScan<double>;
    __shared__ typename Scan::TempStorage temp[4];
    int i = blockIdx.x * 128 + threadIdx.x;
    double v = x[i];
    Scan(temp[threadIdx.x / 32]).InclusiveScan(v, v, [](double a, double b) { return a > b ? a : b; });
    out[i] = v;
}

extern "C" __global__ void group_reduce(const int* x, int* out, int* least) {
    auto tile = cg::tiled_partition<8>(cg::this_thread_block());
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int sum = cg::reduce(tile, x[i], cg::plus<int>());
    if (tile.thread_rank() == 0) out[i / 8] = sum;
    auto some = cg::coalesced_threads();
    if (x[i] % 3 == 0) {
        auto threes = cg::coalesced_threads();
        int low = cg::reduce(threes, x[i], cg::less<int>());
        if (threes.thread_rank() == 0) least[i / 32] = low;
    }
    some.sync();
}

extern "C" __global__ void group_scan(const int* x, int* out) {
    auto tile = cg::tiled_partition<32>(cg::this_thread_block());
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = cg::exclusive_scan(tile, x[i]);
}

extern "C" __global__ void group_copy(const float* x, float* out) {
    __shared__ float stage[256];
    auto block = cg::this_thread_block();
    cg::memcpy_async(block, stage, x + blockIdx.x * 256, cuda::aligned_size_t<16>(1024));
    cg::wait(block);
    out[blockIdx.x * 256 + threadIdx.x] = stage[255 - threadIdx.x];
}

extern "C" __global__ void barrier_copy(const float* x, float* out) {
    __shared__ alignas(16) float stage[256];
    __shared__ cuda::barrier<cuda::thread_scope_block> bar;
    if (threadIdx.x == 0) init(&bar, blockDim.x);
    __syncthreads();
    cuda::memcpy_async(&stage[threadIdx.x], &x[blockIdx.x * 256 + threadIdx.x], sizeof(float), bar);
    bar.arrive_and_wait();
    out[blockIdx.x * 256 + threadIdx.x] = stage[255 - threadIdx.x];
}

extern "C" __global__ void atomic_ticket(int* next, int* order, float* most) {
    cuda::atomic_ref<int, cuda::thread_scope_device> ticket(*next);
    int mine = ticket.fetch_add(1, cuda::memory_order_acq_rel);
    order[mine] = 1;
    cuda::atomic_ref<float, cuda::thread_scope_device> highest(*most);
    float old = highest.load(cuda::memory_order_relaxed);
    while (old < (float)mine && !highest.compare_exchange_weak(old, (float)mine, cuda::memory_order_relaxed)) {}
}

extern "C" __global__ void half_math(const __half2* x, const __half2* y, __half2* out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    __half2 a = x[i], b = y[i];
    __half2 r = __hfma2(a, b, __h2div(a, __hadd2(__habs2(b), __float2half2_rn(1.0f))));
    out[i] = __hmax2(r, h2sqrt(__habs2(a)));
}

extern "C" __global__ void complex_powers(const cuda::std::complex<float>* x, cuda::std::complex<float>* out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    cuda::std::complex<float> z = x[i];
    out[i] = z * z * z - cuda::std::complex<float>(1.0f, 0.5f) / (z + 2.0f);
}
"""


def compiled(architecture):
    """The module's PTX."""
    include = Path(next(iter(nvidia.cu13.__path__))) / "include"
    error, program = nvrtc.nvrtcCreateProgram(SOURCE.encode(), b"cccl.cu", 0, [], [])
    options = [f"--gpu-architecture={architecture}", "--std=c++17", f"-I{include}", f"-I{include}/cccl", "-default-device"]
    options = [option.encode() for option in options]
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


def launches():
    """Kernel, grid, block, and a function that adds the arguments."""
    random = np.random.default_rng(1)
    x = random.integers(-100, 100, (2, 512)).astype(np.int32)
    sums = np.concatenate([np.zeros((2, 1), dtype=np.int32), x.cumsum(1, dtype=np.int32)], 1)
    for name in ("scan_raking", "scan_warps"):
        yield name, [2], [128], [("input", x), ("output", sums[:, :-1]), ("output", np.ascontiguousarray(sums[:, -1]))]
    x = numbers(600, 2)
    want = np.pad(x, (0, 168)).reshape(3, 256).sum(1, dtype=float).astype(np.float32)
    for name in ("reduce_raking", "reduce_warps"):
        yield name, [3], [256], [("input", x), ("output", want, 1e-5), ("scalar", "i32", 600)]
    keys, values = random.integers(0, 2**32, (2, 512)).astype(np.uint32), random.integers(0, 99, (2, 512)).astype(np.int32)
    order = keys.argsort(1, kind="stable")
    yield "radix_sort", [2], [128], [("input", keys), ("input", values), ("output", np.take_along_axis(keys, order, 1)),
                                     ("output", np.take_along_axis(values, order, 1))]
    x = numbers(384, 3)
    yield "merge_sort", [1], [128], [("input", x), ("output", np.sort(x))]
    x = random.integers(0, 64, 512).astype(np.uint8)
    yield "block_histogram", [1], [128], [("input", x), ("output", np.bincount(x, minlength=64).astype(np.uint32))]
    x = numbers((6, 32), 4, 1.0, np.float64)[:4]
    yield "warp_scan", [1], [128], [("input", x), ("output", np.maximum.accumulate(x, 1))]
    x = random.integers(1, 1000, 256).astype(np.int32)
    x[::32] = 999
    lanes = x.reshape(8, 32)
    least = np.where(lanes % 3 == 0, lanes, 2**31 - 1).min(1).astype(np.int32)
    yield "group_reduce", [2], [128], [("input", x), ("output", x.reshape(-1, 8).sum(1, dtype=np.int32)), ("output", least)]
    yield "group_scan", [2], [128], [("input", x), ("output", lanes.cumsum(1, dtype=np.int32) - lanes)]
    x = numbers((2, 256), 5)
    for name in ("group_copy", "barrier_copy"):
        yield name, [2], [256], [("input", x), ("output", np.ascontiguousarray(x[:, ::-1]))]
    zero, most = np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.float32)
    yield "atomic_ticket", [3], [64], [("update", zero, zero + 192), ("output", np.ones(192, dtype=np.int32)), ("update", most, most + 191)]
    a, b = numbers(256, 6, 1.0, np.float16), numbers(256, 7, 2.0, np.float16)
    p, q = a.astype(float), b.astype(float)
    want = np.maximum(p * q + p / (np.abs(q) + 1), np.sqrt(np.abs(p))).astype(np.float16)
    yield "half_math", [1], [128], [("input", a), ("input", b), ("output", want, 2e-3, 2e-3)]
    z = numbers((100, 2), 8)
    c = z[:, 0].astype(float) + 1j * z[:, 1]
    want = c ** 3 - (1 + 0.5j) / (c + 2)
    yield "complex_powers", [1], [100], [("input", z), ("output", np.stack([want.real, want.imag], 1).astype(np.float32), 1e-6, 1e-6)]


def cases():
    """Every kernel for both architectures."""
    for architecture in ("80", "90"):
        ptx = compiled(f"compute_{architecture}")
        for name, grid, block, steps in launches():
            case = Case(f"{name}_sm{architecture}", ptx, name, grid, block)
            for how, *rest in steps:
                getattr(case, how)(*rest)
            yield case
