"""Kernels in Python, compiled by Numba and NVVM for GPUs that need not be there."""

import math
import re

import numpy as np
from numba import complex64, cuda, float32, float64, int32, int64, uint32, uint64, uint8

from case import Case, numbers

KINDS = {
    "float32": float32, "float64": float64, "int32": int32, "int64": int64, "uint32": uint32, "uint64": uint64,
    "uint8": uint8,
}


class Launch:
    """A kernel's arguments, from which both its signature and its case follow."""

    def __init__(self, kernel, grid, block, shared=0, **options):
        self.kernel, self.grid, self.block, self.shared = kernel, grid, block, shared
        self.options, self.types, self.steps = options, [], []

    def buffer(self, how, values, *rest, **tolerance):
        kind = KINDS[values.dtype.name]
        self.types.append(kind[(slice(None),) * (values.ndim - 1) + (slice(None, None, 1),)])

        def step(case):
            # An array as Numba passes it: two addresses that kernels never look at, size, data, shape and strides.
            for value in (0, 0, values.size, values.itemsize):
                case.scalar("u64", value)
            getattr(case, how)(values, *rest, **tolerance)
            for value in values.shape + values.strides:
                case.scalar("u64", value)

        self.steps.append(step)
        return self

    def input(self, values):
        return self.buffer("input", values)

    def output(self, values, **tolerance):
        return self.buffer("output", values, **tolerance)

    def update(self, before, after, **tolerance):
        return self.buffer("update", before, after, **tolerance)

    def scratch(self, values):
        return self.buffer("scratch", values)

    def value(self, kind, value):
        self.types.append({"f32": float32, "f64": float64, "i32": int32, "u64": uint64}[kind])
        self.steps.append(lambda case: case.scalar(kind, value))
        return self

    def case(self, capability=(8, 0)):
        ptx, _ = cuda.compile(self.kernel, tuple(self.types), cc=capability, device=False, abi="numba", **self.options)
        name = self.kernel.__name__
        mangled = re.search(r"\.visible \.entry (\w+)\(", ptx)[1]
        ptx = ptx.replace(mangled, name)
        # A variable that names the compiled function, of no use to the kernel.
        ptx = re.sub(r"\.common \.global \.align 8 \.u64 _ZN08NumbaEnv\w+;\n", "", ptx)
        case = Case(f"{name}_sm{capability[0]}{capability[1]}", ptx, name, self.grid, self.block, self.shared)
        for step in self.steps:
            step(case)
        return case


def saxpy(x, y, out, a):
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i] = a * x[i] + y[i]


def tiled_matmul(a, b, c):
    sa, sb = cuda.shared.array((16, 16), float32), cuda.shared.array((16, 16), float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = float32(0)
    for step in range((a.shape[1] + 15) // 16):
        k = step * 16
        sa[ty, tx] = a[row, k + tx] if row < a.shape[0] and k + tx < a.shape[1] else 0
        sb[ty, tx] = b[k + ty, column] if column < b.shape[1] and k + ty < b.shape[0] else 0
        cuda.syncthreads()
        for i in range(16):
            total += sa[ty, i] * sb[i, tx]
        cuda.syncthreads()
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


def block_sum(x, out):
    part = cuda.shared.array(128, float64)
    i, t = cuda.grid(1), cuda.threadIdx.x
    part[t] = x[i] if i < x.size else 0.0
    cuda.syncthreads()
    half = cuda.blockDim.x // 2
    while half > 0:
        if t < half:
            part[t] += part[t + half]
        cuda.syncthreads()
        half //= 2
    if t == 0:
        cuda.atomic.add(out, 0, part[0])


def warp_sum(x, out):
    i = cuda.grid(1)
    v = x[i] if i < x.size else float32(0)
    for offset in (16, 8, 4, 2, 1):
        v += cuda.shfl_down_sync(0xFFFFFFFF, v, offset)
    if cuda.laneid == 0:
        out[i // 32] = v


def ballots(x, votes, ranks, matches):
    i = cuda.grid(1)
    flag = x[i] % 3 == 0
    vote = cuda.ballot_sync(0xFFFFFFFF, flag)
    below = vote & ((uint32(1) << uint32(cuda.laneid)) - uint32(1))
    ranks[i] = cuda.popc(below) if flag else -1
    matches[i] = cuda.match_any_sync(0xFFFFFFFF, x[i])
    if cuda.laneid == 0:
        votes[i // 32] = vote


def histogram(x, counts):
    local = cuda.shared.array(32, int32)
    t = cuda.threadIdx.x
    if t < 32:
        local[t] = 0
    cuda.syncthreads()
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.add(local, x[i], 1)
    cuda.syncthreads()
    if t < 32:
        cuda.atomic.add(counts, t, local[t])


def mandelbrot(out, scale, limit):
    x, y = cuda.grid(2)
    if x < out.shape[1] and y < out.shape[0]:
        c = complex((x - 20) * scale, (y - 12) * scale)
        z = complex(0.0, 0.0)
        count = 0
        while count < limit and z.real * z.real + z.imag * z.imag < 4.0:
            z = z * z + c
            count += 1
        out[y, x] = count


def bodies(position, force):
    tile = cuda.shared.array((32, 3), float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    fx, fy, fz = float32(0), float32(0), float32(0)
    for start in range(0, position.shape[0], 32):
        for d in range(3):
            tile[t, d] = position[start + t, d]
        cuda.syncthreads()
        for j in range(32):
            dx, dy, dz = tile[j, 0] - position[i, 0], tile[j, 1] - position[i, 1], tile[j, 2] - position[i, 2]
            d2 = dx * dx + dy * dy + dz * dz + float32(0.01)
            w = float32(1) / (d2 * math.sqrt(d2))
            fx += dx * w
            fy += dy * w
            fz += dz * w
        cuda.syncthreads()
    force[i, 0], force[i, 1], force[i, 2] = fx, fy, fz


def inclusive_scan(x, out):
    buffer = cuda.shared.array((2, 128), int64)
    t = cuda.threadIdx.x
    at, step = 0, 1
    buffer[0, t] = x[cuda.blockIdx.x, t]
    cuda.syncthreads()
    while step < cuda.blockDim.x:
        v = buffer[at, t]
        if t >= step:
            v += buffer[at, t - step]
        at = 1 - at
        buffer[at, t] = v
        cuda.syncthreads()
        step *= 2
    out[cuda.blockIdx.x, t] = buffer[at, t]


def bitonic(x):
    keys = cuda.shared.array(0, float32)
    t = cuda.threadIdx.x
    keys[t] = x[t]
    cuda.syncthreads()
    size = 2
    while size <= cuda.blockDim.x:
        stride = size // 2
        while stride > 0:
            other = t ^ stride
            if other > t:
                up = (t & size) == 0
                a, b = keys[t], keys[other]
                if (a > b) == up:
                    keys[t], keys[other] = b, a
            cuda.syncthreads()
            stride //= 2
        size *= 2
    x[t] = keys[t]


def functions(x, out):
    i = cuda.grid(1)
    if i < x.size:
        v = x[i]
        r = math.sin(v) * math.cos(v * 40.0) + math.exp(-v) + math.log(v) + math.pow(v, 2.5) + math.tanh(v)
        r += math.erf(v) + math.gamma(v) + math.atan2(v, 3.0) + math.sqrt(v) + math.log1p(v) + math.sinh(v) + math.acos(v / 5)
        out[i] = r + math.floor(v * 7.0) + math.copysign(1.0, v - 2.0) + math.hypot(v, 1.0) + v % 0.3 + v // 0.7


def functions32(x, out):
    i = cuda.grid(1)
    if i < x.size:
        v = x[i]
        r = math.sin(v) * math.cos(v * float32(40)) + math.exp(-v) + math.log(v) + math.pow(v, float32(2.5)) + math.tanh(v)
        r += math.erf(v) + math.atan(v) + math.sqrt(v) + math.log10(v) + math.cosh(v) + math.asin(v / float32(5)) + math.lgamma(v)
        out[i] = r


def division(a, b, out):
    i = cuda.grid(1)
    if i < a.size:
        out[i] = a[i] // b[i] + (a[i] % b[i]) * 1000


def locked_maximum(x, best, where, lock):
    i = cuda.grid(1)
    if i < x.size:
        done = False
        while not done:
            if cuda.atomic.cas(lock, 0, 0, 1) == 0:
                cuda.threadfence()
                if x[i] > best[0]:
                    best[0] = x[i]
                    where[0] = i
                cuda.threadfence()
                cuda.atomic.exch(lock, 0, 0)
                done = True


def float_extremes(x, most, least):
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.max(most, 0, x[i])
        cuda.atomic.min(least, 0, x[i])


def solve(a, b, x):
    # Gaussian elimination with pivots, a small system to a thread.
    m = cuda.local.array((4, 5), float64)
    i = cuda.grid(1)
    if i < a.shape[0]:
        for r in range(4):
            for c in range(4):
                m[r, c] = a[i, r, c]
            m[r, 4] = b[i, r]
        for k in range(4):
            best = k
            for r in range(k + 1, 4):
                if abs(m[r, k]) > abs(m[best, k]):
                    best = r
            for c in range(5):
                m[k, c], m[best, c] = m[best, c], m[k, c]
            for r in range(4):
                if r != k:
                    f = m[r, k] / m[k, k]
                    for c in range(5):
                        m[r, c] -= f * m[k, c]
        for r in range(4):
            x[i, r] = m[r, 4] / m[r, r]


WEIGHTS = np.array([0.0625, 0.25, 0.375, 0.25, 0.0625], dtype=np.float32)


def blur(x, out):
    weights = cuda.const.array_like(WEIGHTS)
    i = cuda.grid(1)
    if i < out.size:
        total = float32(0)
        for k in range(5):
            j = min(max(i + k - 2, 0), x.size - 1)
            total += weights[k] * x[j]
        out[i] = total


def random_walk(seeds, out):
    # xorshift64*, and a walk of its bits.
    i = cuda.grid(1)
    if i < seeds.size:
        state = seeds[i]
        at = 0
        for _ in range(64):
            state ^= state >> uint64(12)
            state ^= state << uint64(25)
            state ^= state >> uint64(27)
            draw = state * uint64(0x2545F4914F6CDD1D)
            at += 1 if draw >> uint64(63) else -1
        out[i] = at


def jacobi(u, f, out):
    x, y = cuda.grid(2)
    if 0 < x < u.shape[1] - 1 and 0 < y < u.shape[0] - 1:
        out[y, x] = 0.25 * (u[y, x - 1] + u[y, x + 1] + u[y - 1, x] + u[y + 1, x] - f[y, x])


def ray_spheres(direction, spheres, nearest):
    # Branches that differ from lane to lane, and a loop that they leave early.
    i = cuda.grid(1)
    if i >= direction.shape[0]:
        return
    best, hit = float64(1e9), -1
    for s in range(spheres.shape[0]):
        b, c = 0.0, -spheres[s, 3] * spheres[s, 3]
        for d in range(3):
            b += direction[i, d] * spheres[s, d]
            c += spheres[s, d] * spheres[s, d]
        disc = b * b - c
        if disc < 0:
            continue
        t = b - math.sqrt(disc)
        if t > 0 and t < best:
            best, hit = t, s
        if best < 0.5:
            break
    nearest[i] = hit


def each(function, values):
    return np.array([function(float(v)) for v in values.ravel()]).reshape(values.shape)


def launches():
    """Every kernel with its arguments."""
    x, y = numbers(1000, 1), numbers(1000, 2)
    yield Launch(saxpy, [3], [128]).input(x).input(y).output(np.float32(2.5) * x + y, absolute=1e-6).value("f32", 2.5)
    a, b = numbers((40, 50), 1), numbers((50, 36), 2)
    yield Launch(tiled_matmul, [3, 3], [16, 16]).input(a).input(b).output((a.astype(float) @ b).astype(np.float32), absolute=1e-5)
    x = numbers(500, 3, 8.0, np.float64)
    yield Launch(block_sum, [4], [128]).input(x).update(np.zeros(1), x.sum(keepdims=True), absolute=1e-9)
    x = numbers(180, 4)
    sums = np.pad(x, (0, 12)).reshape(6, 32).sum(1, dtype=np.float64).astype(np.float32)
    yield Launch(warp_sum, [3], [64]).input(x).output(sums, absolute=1e-5)
    x = np.random.default_rng(5).integers(0, 9, 128).astype(np.int32)
    lanes = x.reshape(4, 32)
    votes = ((lanes % 3 == 0) << np.arange(32)).sum(1).astype(np.uint32)
    ranks = np.where(lanes % 3 == 0, np.cumsum(lanes % 3 == 0, 1) - 1, -1).astype(np.int32).ravel()
    matches = ((lanes[:, :, None] == lanes[:, None, :]) << np.arange(32)).sum(2).astype(np.uint32).ravel()
    yield Launch(ballots, [2], [64]).input(x).output(votes).output(ranks).output(matches)
    x = np.random.default_rng(6).integers(0, 32, 700).astype(np.int32)
    yield Launch(histogram, [6], [128]).input(x).update(np.zeros(32, dtype=np.int32), np.bincount(x, minlength=32).astype(np.int32))
    want = np.zeros((24, 40), dtype=np.int32)
    for i in range(24):
        for j in range(40):
            c, z = complex((j - 20) * 0.0625, (i - 12) * 0.0625), 0j
            while want[i, j] < 50 and z.real * z.real + z.imag * z.imag < 4:
                z = complex(z.real * z.real - z.imag * z.imag, 2 * z.real * z.imag) + c
                want[i, j] += 1
    yield Launch(mandelbrot, [3, 3], [16, 8]).output(want).value("f64", 0.0625).value("i32", 50)
    p = numbers((64, 3), 7, 2.0)
    d = p[None].astype(np.float64) - p[:, None]
    d2 = (d * d).sum(2) + 0.01
    yield Launch(bodies, [2], [32]).input(p).output((d / (d2 * np.sqrt(d2))[..., None]).sum(1).astype(np.float32), absolute=2e-2, relative=1e-4)
    x = np.random.default_rng(8).integers(-2**40, 2**40, (3, 128))
    yield Launch(inclusive_scan, [3], [128]).input(x).output(x.cumsum(1))
    x = numbers(256, 9)
    yield Launch(bitonic, [1], [256], shared=1024).update(x, np.sort(x))
    x = np.abs(numbers(100, 10, 4.0, np.float64)) + 0.25
    want = np.sin(x) * np.cos(x * 40) + np.exp(-x) + np.log(x) + x ** 2.5 + np.tanh(x) + each(math.erf, x) + each(math.gamma, x)
    want += np.arctan2(x, 3) + np.sqrt(x) + np.log1p(x) + np.sinh(x) + np.arccos(x / 5) + np.floor(x * 7) + np.copysign(1, x - 2)
    want += np.hypot(x, 1) + np.mod(x, 0.3) + np.floor_divide(x, 0.7)
    yield Launch(functions, [1], [128]).input(x).output(want, relative=1e-13)
    x = np.abs(numbers(100, 11, 4.0)) + np.float32(0.25)
    d = x.astype(np.float64)
    want = np.sin(d) * np.cos(x * np.float32(40), dtype=np.float64) + np.exp(-d) + np.log(d) + d ** 2.5 + np.tanh(d) + each(math.erf, d)
    want += np.arctan(d) + np.sqrt(d) + np.log10(d) + np.cosh(d) + np.arcsin(d / 5) + each(math.lgamma, d)
    yield Launch(functions32, [1], [128]).input(x).output(want.astype(np.float32), relative=2e-6)
    random = np.random.default_rng(12)
    a, b = random.integers(-1000, 1000, 200), random.integers(1, 30, 200) * random.choice([-1, 1], 200)
    yield Launch(division, [2], [128]).input(a).input(b).output(a // b + a % b * 1000)
    x = random.permutation(64).astype(np.float32)
    zero = np.zeros(1, dtype=np.int32)
    yield Launch(locked_maximum, [2], [32]).input(x).update(np.full(1, -1, dtype=np.float32), x.max(keepdims=True)).update(
        zero, x.argmax(keepdims=True).astype(np.int32)).update(zero, zero)
    x = numbers(300, 13, 9.0)
    yield Launch(float_extremes, [3], [128]).input(x).update(np.zeros(1, dtype=np.float32), x.max(keepdims=True)).update(
        np.zeros(1, dtype=np.float32), x.min(keepdims=True))
    a, b = numbers((20, 4, 4), 14, 2.0, np.float64) + np.eye(4) * 3, numbers((20, 4), 15, 1.0, np.float64)
    yield Launch(solve, [1], [32]).input(a).input(b).output(np.linalg.solve(a, b[..., None])[..., 0], absolute=1e-10)
    x = numbers(150, 16)
    padded = np.pad(x, 2, mode="edge")
    yield Launch(blur, [2], [128]).input(x).output(sum(padded[k:k + 150] * WEIGHTS[k] for k in range(5)), absolute=1e-6)
    seeds = random.integers(1, 2**63, 64).astype(np.uint64)
    state, at = seeds.copy(), np.zeros(64, dtype=np.int32)
    for _ in range(64):
        state ^= state >> np.uint64(12)
        state ^= state << np.uint64(25)
        state ^= state >> np.uint64(27)
        at += np.where((state * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(63), 1, -1).astype(np.int32)
    yield Launch(random_walk, [2], [32]).input(seeds).output(at)
    u, f = numbers((20, 40), 17), numbers((20, 40), 18)
    want = u.copy()
    want[1:-1, 1:-1] = 0.25 * (u[1:-1, :-2] + u[1:-1, 2:] + u[:-2, 1:-1] + u[2:, 1:-1] - f[1:-1, 1:-1])
    yield Launch(jacobi, [3, 3], [16, 8]).input(u).input(f).update(u, want, absolute=1e-6)
    direction = random.normal(size=(90, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    spheres = np.concatenate([random.normal(size=(12, 3)) * 4, random.uniform(0.5, 2, (12, 1))], 1)
    nearest = np.full(90, -1, dtype=np.int32)
    for i in range(90):
        best = 1e9
        for s in range(12):
            b, c = direction[i] @ spheres[s, :3], spheres[s, :3] @ spheres[s, :3] - spheres[s, 3] ** 2
            if b * b - c < 0:
                continue
            t = b - math.sqrt(b * b - c)
            if 0 < t < best:
                best, nearest[i] = t, s
            if best < 0.5:
                break
    yield Launch(ray_spheres, [3], [32]).input(direction).input(spheres).output(nearest)


def cases():
    """Every kernel for one architecture: the code is the same for both."""
    for launch in launches():
        yield launch.case()
