// Samples each row from its nucleus: the likeliest values whose probability reaches p. Weights are fixed-point and
// sums are integers, so the choice does not depend on the order of the atomics. One block a row.
// Values fall into 256 bins below the row's maximum, 16 to a factor of two in probability; a bin's members have the
// weight of its upper edge. The nucleus is the shortest run of bins from the top with p of the weight, 0 < p <= 1.
// The token is the first, in order of index, at which the running weight of the nucleus exceeds u of its total.
// logits (rows, cols), uniform (rows,) in [-1, 1) and mapped to [0, 1), token (rows,), mass (rows, 2): weight of the
// nucleus, of the whole row. Block: 256. A row's weight must stay below 2^32.

typedef unsigned long long u64;

constexpr unsigned THREADS = 256, BINS = 256;

// 2^20 * 2^(-i/16)
__constant__ unsigned WEIGHTS[16] = {1048576, 1004120, 961548, 920782, 881744, 844361, 808563, 774282,
                                     741455, 710020, 679917, 651091, 623487, 597053, 571740, 547500};

__device__ __forceinline__ unsigned weight_of(unsigned bin) { return WEIGHTS[bin % 16] >> (bin / 16); }

__device__ __forceinline__ unsigned bin_of(float logit, float top) {
    return min((unsigned)((top - logit) * 23.0831207f), BINS - 1); // 16 log2(e)
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
    return value;
}

// Inclusive prefix sum over the block; `scratch` holds a word per warp and is free again on return.
__device__ unsigned block_inclusive_scan(unsigned value, unsigned* scratch) {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
        const unsigned below = __shfl_up_sync(0xffffffffu, value, offset);
        if (lane >= offset) value += below;
    }
    if (lane == 31) scratch[warp] = value;
    __syncthreads();
    for (unsigned w = 0; w < warp; w++) value += scratch[w];
    __syncthreads();
    return value;
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
top_p(const float* __restrict__ logits, const float* __restrict__ uniform, int* __restrict__ token,
      u64* __restrict__ mass, unsigned cols, float p) {
    __shared__ float warp_tops[THREADS / 32];
    __shared__ unsigned scratch[THREADS / 32];
    __shared__ unsigned bin_weight[BINS];
    __shared__ unsigned last_bin, nucleus, chosen;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    logits += (size_t)blockIdx.x * cols;

    float top = -3.0e38f;
    for (unsigned c = threadIdx.x; c < cols; c += THREADS) top = fmaxf(top, logits[c]);
    top = warp_max(top);
    if (lane == 0) warp_tops[warp] = top;
    bin_weight[threadIdx.x] = 0;
    __syncthreads();
    top = warp_max(warp_tops[lane % (THREADS / 32)]);

    for (unsigned c = threadIdx.x; c < cols; c += THREADS) {
        const unsigned bin = bin_of(logits[c], top);
        atomicAdd(&bin_weight[bin], weight_of(bin));
    }
    __syncthreads();

    const unsigned own = bin_weight[threadIdx.x];
    const unsigned through = block_inclusive_scan(own, scratch);
    if (threadIdx.x == THREADS - 1) scratch[0] = through;
    __syncthreads();
    const unsigned total = scratch[0];
    const unsigned wanted = min(__float2uint_ru(p * total), total);
    if (through >= wanted && through - own < wanted) {
        last_bin = threadIdx.x;
        nucleus = through;
    }
    __syncthreads();

    const unsigned target = min((unsigned)((uniform[blockIdx.x] * 0.5f + 0.5f) * nucleus), nucleus - 1);
    unsigned before = 0;
    for (unsigned base = 0; base < cols; base += THREADS) {
        const unsigned c = base + threadIdx.x;
        const unsigned bin = c < cols ? bin_of(logits[c], top) : BINS;
        const unsigned weight = bin <= last_bin ? weight_of(bin) : 0;
        const unsigned running = before + block_inclusive_scan(weight, scratch);
        if (running > target && running - weight <= target) chosen = c;
        if (threadIdx.x == THREADS - 1) scratch[0] = running;
        __syncthreads();
        before = scratch[0];
        __syncthreads();
        if (before > target) break;
    }
    if (threadIdx.x == 0) {
        token[blockIdx.x] = chosen;
        mass[2 * blockIdx.x] = nucleus;
        mass[2 * blockIdx.x + 1] = total;
    }
}
