// Rebuilds a row from a base and a sparse delta: a bit says whether an element changed, changed elements' words are
// packed in order, and an element's place among them is the number of set bits before it.
// base, out (rows, 32 * words) u16; mask (rows, words); packed (rows, 32 * words) u16, of which a row uses as many
// as its mask has bits; out = base ^ packed where set. One block a row. Block: a multiple of 32 up to 256, at least
// words.

typedef unsigned short u16;

extern "C" __global__ void __launch_bounds__(256)
sparse_delta(const u16* __restrict__ base, const unsigned* __restrict__ mask, const u16* __restrict__ packed,
             u16* __restrict__ out, unsigned words) {
    __shared__ unsigned masks[256], before[256], warp_totals[8];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const size_t row = (size_t)blockIdx.x * words;

    const unsigned word = threadIdx.x < words ? mask[row + threadIdx.x] : 0;
    unsigned inclusive = __popc(word);
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
        const unsigned below = __shfl_up_sync(0xffffffffu, inclusive, offset);
        if (lane >= offset) inclusive += below;
    }
    if (lane == 31) warp_totals[warp] = inclusive;
    __syncthreads();
    unsigned prefix = inclusive - __popc(word);
    for (unsigned w = 0; w < warp; w++) prefix += warp_totals[w];
    masks[threadIdx.x] = word;
    before[threadIdx.x] = prefix;
    __syncthreads();

    // One warp a word, one lane an element: all accesses of a warp are to neighbours.
    for (unsigned j = warp; j < words; j += warps) {
        const unsigned bits = masks[j];
        const size_t element = (row + j) * 32 + lane;
        u16 value = base[element];
        if (bits >> lane & 1) value ^= packed[row * 32 + before[j] + __popc(bits & ((1u << lane) - 1))];
        out[element] = value;
    }
}
