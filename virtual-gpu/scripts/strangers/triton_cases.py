"""Kernels in Triton, compiled ahead of time for GPUs that need not be there."""

import math
import re

import numpy as np
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.language.extra import libdevice

from case import Bf16, Case, numbers, philox

TYPES = {
    "float32": "*fp32", "float16": "*fp16", "float64": "*fp64", "int32": "*i32", "uint32": "*u32", "int64": "*i64",
    "uint8": "*u8", "int8": "*i8",
}
POINTER, INTEGER, FLOAT = "pointer", "i32", "fp32"


class Launch:
    """A Triton kernel's arguments, from which both its signature and its case follow."""

    def __init__(self, name, kernel, grid, warps=4, stages=3, **constants):
        self.name, self.kernel, self.grid = name, kernel, grid
        self.options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
        self.constants, self.steps, self.types = constants, [], []

    def buffer(self, how, values, *rest, **tolerance):
        self.types.append("*bf16" if isinstance(values, Bf16) else TYPES[values.dtype.name])
        self.steps.append(lambda case: getattr(case, how)(values, *rest, **tolerance))
        return self

    def input(self, values):
        return self.buffer("input", values)

    def output(self, values, **tolerance):
        return self.buffer("output", values, **tolerance)

    def update(self, before, after, **tolerance):
        return self.buffer("update", before, after, **tolerance)

    def scratch(self, values):
        return self.buffer("scratch", values)

    def integers(self, *values):
        for value in values:
            self.types.append("i32")
            self.steps.append(lambda case, value=value: case.scalar("i32", value))
        return self

    def float(self, value):
        self.types.append("fp32")
        self.steps.append(lambda case: case.scalar("f32", value))
        return self

    def compile(self, arch):
        names = self.kernel.arg_names
        free = [name for name in names if name not in self.constants]
        assert len(free) == len(self.types), (self.name, free, self.types)
        signature = dict(zip(free, self.types)) | {name: "constexpr" for name in self.constants}
        signature = {name: signature[name] for name in names}
        # As the launcher does for addresses, which are all multiples of 16.
        aligned = {
            (names.index(name),): [["tt.divisibility", 16]] for name, kind in zip(free, self.types) if kind[0] == "*"
        }
        source = ASTSource(fn=self.kernel, signature=signature, constexprs=self.constants, attrs=aligned)
        return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=self.options)

    def case(self, arch):
        compiled = self.compile(arch)
        # What is left is a line table whose file names are those of the machine at hand.
        ptx = re.sub(r'\t\.section\t\.debug_\w+\n\t\{.*?\n\t\}\n|\t\.section\t\.debug_macinfo.*\n', "", compiled.asm["ptx"], flags=re.S)
        ptx = re.sub(r"(\.loc\t[^\n]*?) *//.*", r"\1", ptx)
        ptx = re.sub(r'(\.file\t\d+ ")[^"]*/([^"/]+")', r"\1\2", ptx)
        meta = compiled.metadata
        block = [32 * meta.num_warps]
        case = Case(f"{self.name}_sm{arch}", ptx, meta.name, self.grid, block, meta.shared)
        for step in self.steps:
            step(case)
        # The compiler's own two parameters: scratch memory that these kernels have none of.
        assert meta.global_scratch_size == 0 and meta.profile_scratch_size == 0
        case.scalar("u64", 0)
        case.scalar("u64", 0)
        return case


@triton.jit
def vector_add(x, y, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    tl.store(out + at, tl.load(x + at, mask=mask) + tl.load(y + at, mask=mask), mask=mask)


@triton.jit
def activations(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + at, mask=at < n, other=0.0)
    gelu = 0.5 * v * (1.0 + tl.erf(v * 0.7071067811865476))
    silu = v * tl.sigmoid(v)
    tanh = libdevice.tanh(v)
    soft = tl.log(1.0 + tl.exp(v))
    tl.store(out + at, gelu + silu + tanh + soft + tl.sin(v) * tl.cos(v) + tl.rsqrt(1.0 + v * v), mask=at < n)


@triton.jit
def special(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + at, mask=at < n, other=1.0)
    r = libdevice.pow(v, 1.7) + libdevice.atan2(v, 2.0) + libdevice.log1p(v) + libdevice.fmod(v, 0.75)
    r += libdevice.cbrt(v) + libdevice.lgamma(v) + libdevice.expm1(v) + tl.floor(v * 3.0) + libdevice.hypot(v, 2.0)
    tl.store(out + at, r, mask=at < n)


@triton.jit
def softmax(x, out, stride, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    mask = at < columns
    v = tl.load(x + row * stride + at, mask=mask, other=-float("inf"))
    e = tl.exp(v - tl.max(v, axis=0))
    tl.store(out + row * stride + at, e / tl.sum(e, axis=0), mask=mask)


@triton.jit
def layer_norm(x, weight, bias, out, mean_out, rstd_out, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.load(x + row * columns + at, mask=at < columns, other=0.0).to(tl.float32)
    mean = tl.sum(total, axis=0) / columns
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        v = tl.load(x + row * columns + at, mask=at < columns, other=0.0).to(tl.float32)
        d = tl.where(at < columns, v - mean, 0.0)
        total += d * d
    rstd = 1 / tl.sqrt(tl.sum(total, axis=0) / columns + eps)
    tl.store(mean_out + row, mean)
    tl.store(rstd_out + row, rstd)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        mask = at < columns
        v = tl.load(x + row * columns + at, mask=mask, other=0.0).to(tl.float32)
        w, b = tl.load(weight + at, mask=mask), tl.load(bias + at, mask=mask)
        tl.store(out + row * columns + at, (v - mean) * rstd * w + b, mask=mask)


@triton.jit
def layer_norm_weights(dy, x, mean, rstd, dw, count, lock, columns, GROUPS: tl.constexpr, BLOCK: tl.constexpr):
    # Rows of one group add into one row of partial sums, one after the other: a lock that is taken by compare-and-swap.
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    mask = at < columns
    d = tl.load(dy + row * columns + at, mask=mask, other=0.0)
    v = tl.load(x + row * columns + at, mask=mask, other=0.0)
    part = d * (v - tl.load(mean + row)) * tl.load(rstd + row)
    group = row % GROUPS
    while tl.atomic_cas(lock + group, 0, 1) == 1:
        pass
    before = tl.load(count + group)
    if before == 0:
        tl.atomic_xchg(count + group, 1)
    else:
        part += tl.load(dw + group * columns + at, mask=mask)
    tl.store(dw + group * columns + at, part, mask=mask)
    tl.debug_barrier()
    tl.atomic_xchg(lock + group, 0)


@triton.jit
def matmul(a, b, c, M, N, K, sa, sb, sc, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
           OUT: tl.constexpr, TF32: tl.constexpr):
    pid = tl.program_id(0)
    rows, columns = tl.cdiv(M, BM), tl.cdiv(N, BN)
    width = GROUP * columns
    first = pid // width * GROUP
    size = min(rows - first, GROUP)
    pm, pn = first + pid % width % size, pid % width // size
    im, jn, k = (pm * BM + tl.arange(0, BM)) % M, (pn * BN + tl.arange(0, BN)) % N, tl.arange(0, BK)
    pa, pb = a + im[:, None] * sa + k[None, :], b + k[:, None] * sb + jn[None, :]
    total = tl.zeros((BM, BN), dtype=tl.int32 if OUT == tl.int32 else tl.float32)
    for step in range(0, tl.cdiv(K, BK)):
        va = tl.load(pa, mask=k[None, :] < K - step * BK, other=0)
        vb = tl.load(pb, mask=k[:, None] < K - step * BK, other=0)
        total = tl.dot(va, vb, total, input_precision=TF32)
        pa += BK
        pb += BK * sb
    i, j = pm * BM + tl.arange(0, BM), pn * BN + tl.arange(0, BN)
    tl.store(c + i[:, None] * sc + j[None, :], total.to(OUT), mask=(i[:, None] < M) & (j[None, :] < N))


@triton.jit
def split_k(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    i, j = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, BN)
    k = tl.program_id(1) * BK + tl.arange(0, BK)
    va = tl.load(a + i[:, None] * K + k[None, :])
    vb = tl.load(b + k[:, None] * N + j[None, :])
    tl.atomic_add(c + i[:, None] * N + j[None, :], tl.dot(va, vb))


@triton.jit
def int4_matmul(a, packed, scales, c, M, N, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    i, j = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        k = start + tl.arange(0, BK)
        va = tl.load(a + i[:, None] * K + k[None, :], mask=i[:, None] < M, other=0.0)
        words = tl.load(packed + (k[:, None] // 8) * N + j[None, :])
        q = ((words >> (k[:, None] % 8 * 4)) & 15) - 8
        w = (q.to(tl.float32) * tl.load(scales + start // BK * N + j)[None, :]).to(tl.float16)
        total = tl.dot(va, w, total)
    tl.store(c + i[:, None] * N + j[None, :], total, mask=i[:, None] < M)


@triton.jit
def attention(q, k, v, out, scale, n, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, CAUSAL: tl.constexpr):
    block, head = tl.program_id(0), tl.program_id(1)
    base = head * n * D
    i, d = block * BM + tl.arange(0, BM), tl.arange(0, D)
    vq = tl.load(q + base + i[:, None] * D + d[None, :])
    best = tl.full([BM], -float("inf"), dtype=tl.float32)
    sums = tl.zeros([BM], dtype=tl.float32)
    total = tl.zeros([BM, D], dtype=tl.float32)
    end = (block + 1) * BM if CAUSAL else n
    for start in range(0, end, BN):
        j = start + tl.arange(0, BN)
        vk = tl.load(k + base + j[None, :] * D + d[:, None])
        s = tl.dot(vq, vk) * (scale * 1.44269504)
        if CAUSAL:
            s = tl.where(i[:, None] >= j[None, :], s, -1.0e6)
        now = tl.maximum(best, tl.max(s, 1))
        p = tl.math.exp2(s - now[:, None])
        fade = tl.math.exp2(best - now)
        sums = sums * fade + tl.sum(p, 1)
        vv = tl.load(v + base + j[:, None] * D + d[None, :])
        total = tl.dot(p.to(vv.dtype), vv, total * fade[:, None])
        best = now
    tl.store(out + base + i[:, None] * D + d[None, :], (total / sums[:, None]).to(out.dtype.element_ty))


@triton.jit
def dropout(x, out, n, p, seed, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = tl.rand(seed, at) > p
    v = tl.load(x + at, mask=at < n)
    tl.store(out + at, tl.where(keep, v / (1 - p), 0.0), mask=at < n)


@triton.jit
def combine(fa, va, fb, vb):
    return fa * fb, vb + fb * va


@triton.jit
def scans(x, sums, products, recurrence, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    row = tl.program_id(0) * n
    v = tl.load(x + row + at, mask=at < n, other=0.0)
    tl.store(sums + row + at, tl.cumsum(v, axis=0), mask=at < n)
    tl.store(products + row + at, tl.cumprod(1.0 + v * 0.01, axis=0), mask=at < n)
    f, r = tl.associative_scan((v * 0.5, v), 0, combine)
    tl.store(recurrence + row + at, r, mask=at < n)


@triton.jit
def sort_rows(x, sorted, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(sorted + at, tl.sort(tl.load(x + at)))


@triton.jit
def histogram(x, counts, n, BLOCK: tl.constexpr, BINS: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    h = tl.histogram(tl.load(x + at, mask=at < n, other=0), BINS, mask=at < n)
    tl.atomic_add(counts + tl.arange(0, BINS), h, sem="relaxed")


@triton.jit
def arg_best(x, most, where_most, least, where_least, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    mask = at < columns
    high = tl.load(x + row * columns + at, mask=mask, other=-float("inf"))
    low = tl.load(x + row * columns + at, mask=mask, other=float("inf"))
    m, i = tl.max(high, axis=0, return_indices=True)
    tl.store(most + row, m)
    tl.store(where_most + row, i)
    m, i = tl.min(low, axis=0, return_indices=True)
    tl.store(least + row, m)
    tl.store(where_least + row, i)


@triton.jit
def transpose(x, out, M, N, BM: tl.constexpr, BN: tl.constexpr):
    i, j = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    v = tl.load(x + i[:, None] * N + j[None, :], mask=(i[:, None] < M) & (j[None, :] < N))
    tl.store(out + j[:, None] * M + i[None, :], tl.trans(v), mask=(j[:, None] < N) & (i[None, :] < M))


@triton.jit
def cross_entropy(logits, labels, loss, gradient, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    mask = at < columns
    v = tl.load(logits + row * columns + at, mask=mask, other=-float("inf"))
    most = tl.max(v, axis=0)
    e = tl.exp(v - most)
    total = tl.sum(e, axis=0)
    label = tl.load(labels + row)
    tl.store(loss + row, tl.log(total) + most - tl.load(logits + row * columns + label))
    tl.store(gradient + row * columns + at, e / total - tl.where(at == label, 1.0, 0.0), mask=mask)


@triton.jit
def rope(x, out, tokens, HEADS: tl.constexpr, HALF: tl.constexpr):
    token = tl.program_id(0)
    head, d = tl.arange(0, HEADS), tl.arange(0, HALF)
    angle = token * tl.exp(d.to(tl.float32) * (-9.210340371976184 / HALF))
    cos, sin = tl.cos(angle)[None, :], tl.sin(angle)[None, :]
    base = token * HEADS * HALF * 2 + head[:, None] * HALF * 2 + d[None, :]
    a, b = tl.load(x + base).to(tl.float32), tl.load(x + base + HALF).to(tl.float32)
    tl.store(out + base, (a * cos - b * sin).to(tl.bfloat16))
    tl.store(out + base + HALF, (b * cos + a * sin).to(tl.bfloat16))


@triton.jit
def quantise(x, q, scales, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    v = tl.load(x + row * columns + at, mask=at < columns, other=0.0)
    scale = tl.max(tl.abs(v), axis=0) / 127.0
    rounded = libdevice.rint(v / scale)
    tl.store(scales + row, scale)
    tl.store(q + row * columns + at, rounded.to(tl.int8), mask=at < columns)


@triton.jit
def gather_rows(table, index, out, columns, BLOCK: tl.constexpr):
    row = tl.load(index + tl.program_id(0)).to(tl.int64)
    at = tl.arange(0, BLOCK)
    v = tl.load(table + row * columns + at, mask=at < columns)
    tl.store(out + tl.program_id(0) * columns + at, v, mask=at < columns)


@triton.jit
def scatter_add(values, index, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out + tl.load(index + at, mask=at < n, other=0), tl.load(values + at, mask=at < n, other=0.0), mask=at < n)


@triton.jit
def bounds(x, most, least, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + at, mask=at < n, other=0)
    tl.atomic_max(most, tl.max(tl.where(at < n, v, -2147483648), axis=0))
    tl.atomic_min(least, tl.min(tl.where(at < n, v, 2147483647), axis=0))


@triton.jit
def integers(x, y, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a, b = tl.load(x + at, mask=at < n, other=1), tl.load(y + at, mask=at < n, other=1)
    r = a // b + a % b + tl.umulhi(a.to(tl.uint32, bitcast=True), b.to(tl.uint32, bitcast=True)).to(tl.int32, bitcast=True)
    r ^= (a << 3) | (b >> 2) & ~a
    r += libdevice.popc(a) + libdevice.clz(b) + libdevice.brev(a)
    tl.store(out + at, r, mask=at < n)


@triton.jit
def double_norm(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    v = tl.load(x + row * columns + at, mask=at < columns, other=0.0)
    tl.store(out + row * columns + at, v / tl.sqrt(tl.sum(v * v, axis=0)) + tl.exp(v), mask=at < columns)


@triton.jit
def conv1d(x, w, out, n, C: tl.constexpr, T: tl.constexpr, TAPS: tl.constexpr):
    t, c = tl.program_id(0) * T + tl.arange(0, T), tl.arange(0, C)
    total = tl.zeros((T, C), dtype=tl.float32)
    for tap in tl.static_range(TAPS):
        s = t - (TAPS - 1) + tap
        v = tl.load(x + s[:, None] * C + c[None, :], mask=(s[:, None] >= 0) & (s[:, None] < n), other=0.0)
        total += v * tl.load(w + tap * C + c)[None, :]
    tl.store(out + t[:, None] * C + c[None, :], total * tl.sigmoid(total), mask=t[:, None] < n)


@triton.jit
def fp8_round(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + at, mask=at < n, other=0.0)
    r = v.to(tl.float8e5).to(tl.float32)
    tl.store(out + at, r, mask=at < n)


@triton.jit
def welford(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    mask = at < columns
    v = tl.load(x + row * columns + at, mask=mask, other=0.0)
    count, mean, m2 = tl.reduce((mask.to(tl.float32), v, v * 0.0), 0, welford_step)
    tl.store(out + row * 2, mean)
    tl.store(out + row * 2 + 1, m2 / count)


@triton.jit
def welford_step(na, ma, sa, nb, mb, sb):
    n = na + nb
    share = tl.where(n == 0.0, 0.0, nb / n)
    d = mb - ma
    return n, ma + d * share, sa + sb + d * d * na * share


@triton.jit
def ticket_sum(x, out, partial, ticket, n, BLOCK: tl.constexpr, BLOCKS: tl.constexpr):
    # The block that draws the last ticket adds the partial sums of all.
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(partial + tl.program_id(0), tl.sum(tl.load(x + at, mask=at < n, other=0.0), axis=0))
    tl.debug_barrier()
    if tl.atomic_add(ticket, 1, sem="acq_rel") == BLOCKS - 1:
        tl.store(out, tl.sum(tl.load(partial + tl.arange(0, BLOCKS)), axis=0))


def erf(x):
    return np.array([math.erf(v) for v in np.asarray(x, dtype=np.float64).ravel()]).reshape(np.shape(x))


def product(a, b, out):
    wide = np.float64 if out != np.int32 else np.int64
    return (a.astype(wide) @ b.astype(wide)).astype(out)


def gemm(name, dtype, out, m, n, k, tiles, warps=4, stages=3, precision="tf32"):
    a, b = (numbers((m, k), 1), numbers((k, n), 2))
    if dtype == np.int8:
        a, b = (numbers((m, k), 1, 64).astype(np.int8), numbers((k, n), 2, 64).astype(np.int8))
    if dtype == "bf16":
        a, b = Bf16(a), Bf16(b)
        want = Bf16(product(a.numbers, b.numbers, np.float64))
    else:
        a, b = a.astype(dtype), b.astype(dtype)
        want = product(a, b, np.int32 if out == tl.int32 else np.float64)
        want = want if out == tl.int32 else want.astype({tl.float16: np.float16, tl.float32: np.float32}[out])
    near = {} if out == tl.int32 else {"absolute": 1e-4, "relative": 8e-3 if dtype == "bf16" else 2e-3 if out == tl.float16 else 1e-5}
    grid = [-(-m // tiles[0]) * -(-n // tiles[1])]
    launch = Launch(name, matmul, grid, warps, stages, BM=tiles[0], BN=tiles[1], BK=tiles[2], GROUP=2, OUT=out, TF32=precision)
    return launch.input(a).input(b).output(want, **near).integers(m, n, k, k, n, n)


def flash(name, dtype, heads, n, d, causal, warps=4):
    q, k, v = (numbers((heads, n, d), seed, 1.0) for seed in (1, 2, 3))
    s = np.einsum("hid,hjd->hij", q, k).astype(np.float64) * 0.125
    if causal:
        s = np.where(np.tril(np.ones((n, n), dtype=bool)), s, -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    want = (p / p.sum(-1, keepdims=True)) @ v.astype(np.float64)
    pack = Bf16 if dtype == "bf16" else lambda x: x.astype(np.float16)
    launch = Launch(name, attention, [n // 64, heads], warps, 3, D=d, BM=64, BN=32, CAUSAL=causal)
    launch.input(pack(q)).input(pack(k)).input(pack(v))
    return launch.output(pack(want), absolute=1e-2 if dtype == "bf16" else 2e-3, relative=1e-2).float(0.125).integers(n)


def launches():
    """Every kernel with its arguments."""
    x, y = numbers(1000, 1), numbers(1000, 2)
    yield Launch("vector_add", vector_add, [4], BLOCK=256).input(x).input(y).output(x + y).integers(1000)
    x = numbers(500, 3, 4.0)
    d = x.astype(np.float64)
    want = 0.5 * d * (1 + erf(d / math.sqrt(2))) + d / (1 + np.exp(-d)) + np.tanh(d) + np.log1p(np.exp(d)) + np.sin(d) * np.cos(d) + 1 / np.sqrt(1 + d * d)
    yield Launch("activations", activations, [2], BLOCK=256).input(x).output(want.astype(np.float32), absolute=5e-6, relative=2e-6).integers(500)
    x = numbers(200, 3, 2.0) + np.float32(2.5)
    d = x.astype(np.float64)
    want = d ** np.float32(1.7).astype(np.float64) + np.arctan2(d, 2) + np.log1p(d) + np.fmod(d, 0.75) + np.cbrt(d) + np.array([math.lgamma(v) for v in d]) + np.expm1(d) + np.floor(d * 3) + np.hypot(d, 2)
    yield Launch("special_functions", special, [1], BLOCK=256).input(x).output(want.astype(np.float32), relative=1e-5).integers(200)
    x = numbers((6, 200), 4, 8.0)
    e = np.exp(x - x.max(1, keepdims=True).astype(np.float64))
    want = (e / e.sum(1, keepdims=True)).astype(np.float32)
    yield Launch("softmax", softmax, [6], BLOCK=256).input(x).output(want, absolute=1e-8, relative=1e-5).integers(200, 200)
    x, w, b = numbers((4, 300), 5, 2.0, np.float16), numbers(300, 6), numbers(300, 7)
    d = x.astype(np.float64)
    mean, rstd = d.mean(1), 1 / np.sqrt(d.var(1) + 1e-5)
    want = ((d - mean[:, None]) * rstd[:, None] * w + b).astype(np.float32)
    launch = Launch("layer_norm", layer_norm, [4], BLOCK=128).input(x).input(w).input(b).output(want, absolute=1e-5)
    yield launch.output(mean.astype(np.float32), absolute=1e-6).output(rstd.astype(np.float32), absolute=1e-6).integers(300).float(1e-5)
    dy, x = numbers((12, 100), 8), numbers((12, 100), 9)
    mean, rstd = x.mean(1).astype(np.float32), (1 / x.std(1)).astype(np.float32)
    parts = dy.astype(np.float64) * (x - mean[:, None]) * rstd[:, None]
    want = np.stack([parts[g::3].sum(0) for g in range(3)]).astype(np.float32)
    launch = Launch("layer_norm_weights", layer_norm_weights, [12], GROUPS=3, BLOCK=128).input(dy).input(x).input(mean).input(rstd)
    zeros, ones = np.zeros(3, dtype=np.int32), np.ones(3, dtype=np.int32)
    yield launch.output(want, absolute=1e-5).update(zeros, ones).update(zeros, zeros).integers(100)
    yield gemm("matmul_f16", np.float16, tl.float16, 70, 40, 96, (64, 32, 32))
    yield gemm("matmul_bf16", "bf16", tl.bfloat16, 32, 64, 96, (32, 64, 32), stages=4)
    yield gemm("matmul_f16_f32", np.float16, tl.float32, 128, 32, 32, (128, 32, 16), warps=8)
    yield gemm("matmul_tf32", np.float32, tl.float32, 32, 40, 64, (32, 32, 32))
    yield gemm("matmul_f32", np.float32, tl.float32, 40, 32, 48, (32, 32, 16), stages=2, precision="ieee")
    yield gemm("matmul_3xtf32", np.float32, tl.float32, 32, 32, 64, (32, 32, 32), stages=2, precision="tf32x3")
    yield gemm("matmul_i8", np.int8, tl.int32, 64, 32, 128, (64, 32, 64))
    a, b = numbers((32, 256), 1, dtype=np.float16), numbers((256, 32), 2, dtype=np.float16)
    want = product(a, b, np.float32)
    yield Launch("split_k", split_k, [1, 4], BM=32, BN=32, BK=64).input(a).input(b).update(np.zeros_like(want), want, absolute=1e-4, relative=1e-5).integers(32, 32, 256)
    a, q, scales = numbers((10, 64), 1, dtype=np.float16), np.random.default_rng(2).integers(0, 16, (64, 32)), np.abs(numbers((2, 32), 3)) + np.float32(0.5)
    words = sum((q[i::8].astype(np.uint32) << np.uint32(4 * i)) for i in range(8)).astype(np.uint32).view(np.int32)
    weights = ((q - 8).astype(np.float32) * np.repeat(scales, 32, 0)).astype(np.float16)
    want = product(a, weights, np.float32)
    yield Launch("int4_matmul", int4_matmul, [1, 1], K=64, BM=16, BN=32, BK=32).input(a).input(words).input(scales).output(want, absolute=1e-3, relative=1e-4).integers(10, 32)
    yield flash("attention_f16", np.float16, 1, 128, 32, False)
    yield flash("attention_causal_bf16", "bf16", 1, 128, 16, True)
    x = numbers(300, 1)
    keep = philox(1234, np.arange(300)) > np.float32(0.25)
    yield Launch("dropout", dropout, [2], BLOCK=256).input(x).output(np.where(keep, x / np.float32(0.75), 0).astype(np.float32), relative=1e-6).integers(300).float(0.25).integers(1234)
    x = numbers((3, 200), 2)
    d = x.astype(np.float64)
    r = np.zeros_like(d)
    for i in range(200):
        r[:, i] = d[:, i] + (0.5 * d[:, i] * r[:, i - 1] if i else 0)
    launch = Launch("scans", scans, [3], BLOCK=256).input(x).output(d.cumsum(1).astype(np.float32), absolute=1e-5)
    yield launch.output((1 + d * 0.01).cumprod(1).astype(np.float32), relative=1e-5).output(r.astype(np.float32), absolute=1e-5).integers(200)
    x = np.random.default_rng(5).integers(-1000, 1000, (2, 256)).astype(np.int32)
    yield Launch("sort_rows", sort_rows, [2], BLOCK=256).input(x).output(np.sort(x, 1)).integers(256)
    x = np.random.default_rng(6).integers(0, 32, 900).astype(np.int32)
    yield Launch("histogram", histogram, [4], BLOCK=256, BINS=32).input(x).update(np.zeros(32, dtype=np.int32), np.bincount(x, minlength=32).astype(np.int32)).integers(900)
    x = numbers((5, 150), 7, 3.0)
    launch = Launch("arg_best", arg_best, [5], BLOCK=256).input(x).output(x.max(1)).output(x.argmax(1).astype(np.int32))
    yield launch.output(x.min(1)).output(x.argmin(1).astype(np.int32)).integers(150)
    x = numbers((70, 50), 8, dtype=np.float16)
    yield Launch("transpose", transpose, [2, 2], BM=64, BN=32).input(x).output(np.ascontiguousarray(x.T)).integers(70, 50)
    x, labels = numbers((4, 180), 9, 6.0), np.array([0, 179, 64, 90], dtype=np.int32)
    d = x.astype(np.float64)
    p = np.exp(d) / np.exp(d).sum(1, keepdims=True)
    loss = -np.log(p[np.arange(4), labels])
    gradient = p - (np.arange(180)[None, :] == labels[:, None])
    yield Launch("cross_entropy", cross_entropy, [4], BLOCK=256).input(x).input(labels).output(loss.astype(np.float32), absolute=2e-6).output(gradient.astype(np.float32), absolute=1e-6).integers(180)
    x = Bf16(numbers((5, 4, 64), 1))
    d = x.numbers.astype(np.float64)
    angle = np.arange(5)[:, None] * np.exp(np.arange(32) * (-9.210340371976184 / 32))
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    want = np.concatenate([d[..., :32] * cos - d[..., 32:] * sin, d[..., 32:] * cos + d[..., :32] * sin], -1)
    yield Launch("rope", rope, [5], HEADS=4, HALF=32).input(x).output(Bf16(want), absolute=1e-5, relative=8e-3).integers(5)
    x = numbers((3, 100), 2, 5.0)
    scale = (np.abs(x).max(1) / np.float32(127)).astype(np.float32)
    want = np.rint(x / scale[:, None]).astype(np.int8)
    # Where the quotient is half an integer the approximate division may fall on either side.
    yield Launch("quantise", quantise, [3], BLOCK=128).input(x).output(want, absolute=1.0).output(scale, relative=1e-6).integers(100)
    table, index = numbers((12, 100), 3), np.array([11, 0, 7, 7, 2], dtype=np.int64)
    yield Launch("gather_rows", gather_rows, [5], BLOCK=128).input(table).input(index).output(table[index]).integers(100)
    values, index = numbers(400, 4), np.random.default_rng(4).integers(0, 20, 400).astype(np.int32)
    want = np.bincount(index, values, 20).astype(np.float32)
    yield Launch("scatter_add", scatter_add, [2], BLOCK=256).input(values).input(index).update(np.zeros(20, dtype=np.float32), want, absolute=1e-5).integers(400)
    x = np.random.default_rng(4).integers(-9999, 9999, 700).astype(np.int32)
    zero = np.zeros(1, dtype=np.int32)
    yield Launch("bounds", bounds, [3], BLOCK=256).input(x).update(zero, x.max(keepdims=True)).update(zero, x.min(keepdims=True)).integers(700)
    random = np.random.default_rng(11)
    a, b = random.integers(-2**31, 2**31, 300).astype(np.int32), random.integers(1, 5000, 300).astype(np.int32)
    wide_a, wide_b = a.astype(np.int64), b.astype(np.int64)
    quotient = np.trunc(wide_a / wide_b).astype(np.int64)
    high = ((a.view(np.uint32).astype(np.uint64) * b.view(np.uint32).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)
    r = quotient + (wide_a - quotient * wide_b) + high
    r = r.astype(np.uint64).astype(np.uint32)
    au, bu = a.view(np.uint32), b.view(np.uint32)
    r ^= (au << np.uint32(3)) | ((b >> 2).view(np.uint32) & ~au)
    popc = np.array([bin(v).count("1") for v in au], dtype=np.uint32)
    clz = np.array([32 - int(v).bit_length() for v in bu], dtype=np.uint32)
    brev = np.array([int(f"{v:032b}"[::-1], 2) for v in au], dtype=np.uint64).astype(np.uint32)
    yield Launch("integers", integers, [2], BLOCK=256).input(a).input(b).output((r + popc + clz + brev).view(np.int32)).integers(300)
    x = numbers((3, 90), 5, 2.0, np.float64)
    want = x / np.sqrt((x * x).sum(1, keepdims=True)) + np.exp(x)
    yield Launch("double_norm", double_norm, [3], BLOCK=128).input(x).output(want, relative=1e-13).integers(90)
    x, w = numbers((50, 16), 6), numbers((4, 16), 7)
    padded = np.concatenate([np.zeros((3, 16)), x.astype(np.float64)])
    s = sum(padded[t:t + 50] * w[t] for t in range(4))
    yield Launch("conv1d", conv1d, [2], C=16, T=32, TAPS=4).input(x).input(w).output((s / (1 + np.exp(-s))).astype(np.float32), absolute=2e-6).integers(50)
    x = numbers(256, 8, 3.0)
    exponent = np.floor(np.log2(np.abs(np.where(x == 0, 1, x)).astype(np.float64)))
    step = 2.0 ** (np.maximum(exponent, -14) - 2)
    yield Launch("fp8_round", fp8_round, [1], BLOCK=256).input(x).output((np.rint(x / step) * step).astype(np.float32)).integers(256)
    x = numbers((3, 200), 9, 2.0)
    want = np.stack([x.astype(np.float64).mean(1), x.astype(np.float64).var(1)], 1).astype(np.float32)
    yield Launch("welford", welford, [3], BLOCK=256).input(x).output(want, absolute=2e-6).integers(200)
    x = numbers(1000, 10)
    partial = np.array([x[i * 256:(i + 1) * 256].sum(dtype=np.float64) for i in range(4)], dtype=np.float32)
    ticket = np.zeros(1, dtype=np.int32)
    yield Launch("ticket_sum", ticket_sum, [4], BLOCK=256, BLOCKS=4).input(x).output(x.sum(dtype=np.float64, keepdims=True).astype(np.float32), absolute=1e-5).output(partial, absolute=1e-5).update(ticket, ticket + 4).integers(1000)


def cases():
    """Every kernel for Ampere, Hopper and both kinds of Blackwell."""
    for launch in launches():
        for arch in (80, 90, 100, 120):
            yield launch.case(arch)
