"""Kernels in NVIDIA Warp, which it turns into CUDA C++ with its own headers and has NVRTC compile."""

import re
import tempfile
from pathlib import Path

import numpy as np
import warp as wp

from case import Case, numbers

wp.config.quiet = True


@wp.kernel
def saxpy(x: wp.array(dtype=float), y: wp.array(dtype=float), a: float):
    i = wp.tid()
    y[i] = a * x[i] + y[i]


@wp.kernel
def integrate(x: wp.array(dtype=wp.vec3), v: wp.array(dtype=wp.vec3), dt: float):
    i = wp.tid()
    p = x[i]
    r2 = wp.dot(p, p) + 0.01
    u = v[i] - p * (dt / (r2 * wp.sqrt(r2)))
    if wp.length(u) > 2.0:
        u = wp.normalize(u) * 2.0
    v[i] = u
    x[i] = p + u * dt


@wp.kernel
def rotate(q: wp.array(dtype=wp.quat), x: wp.array(dtype=wp.vec3), out: wp.array(dtype=wp.vec3)):
    i = wp.tid()
    out[i] = wp.quat_rotate(wp.normalize(q[i]), x[i])


@wp.kernel
def inverses(m: wp.array(dtype=wp.mat33), out: wp.array(dtype=wp.mat33), det: wp.array(dtype=float)):
    i = wp.tid()
    det[i] = wp.determinant(m[i])
    out[i] = wp.inverse(m[i])


@wp.kernel
def singular_values(m: wp.array(dtype=wp.mat33), out: wp.array(dtype=wp.vec3)):
    i = wp.tid()
    u, s, v = wp.svd3(m[i])
    out[i] = s


@wp.kernel
def histogram(x: wp.array(dtype=int), counts: wp.array(dtype=int)):
    wp.atomic_add(counts, x[wp.tid()], 1)


@wp.kernel
def extremes(x: wp.array(dtype=float), least: wp.array(dtype=float), most: wp.array(dtype=float)):
    v = x[wp.tid()]
    wp.atomic_min(least, 0, v)
    wp.atomic_max(most, 0, v)


@wp.kernel
def stencil(u: wp.array2d(dtype=float), out: wp.array2d(dtype=float)):
    i, j = wp.tid()
    if i > 0 and j > 0 and i < u.shape[0] - 1 and j < u.shape[1] - 1:
        out[i, j] = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1])


@wp.func
def spring(distance: float, length: float):
    return wp.where(distance > length, distance - length, 0.5 * (distance - length))


@wp.kernel
def energy(x: wp.array(dtype=wp.vec3), at: wp.array2d(dtype=int), total: wp.array(dtype=float)):
    e = wp.tid()
    d = wp.length(x[at[e, 0]] - x[at[e, 1]])
    f = spring(d, 0.5)
    wp.atomic_add(total, 0, 0.5 * f * f)




def array(case, how, values, inner=(), **tolerance):
    """An array as Warp passes it: data, gradient, shape, strides, dimensions and flags."""
    shape = values.shape[:values.ndim - len(inner)]
    if how == "update":
        case.update(*tolerance.pop("pair"), **tolerance)
    else:
        getattr(case, how)(values, **tolerance)
    case.scalar("u64", 0)
    strides = values.strides[:len(shape)]
    fill = [0] * (4 - len(shape))
    case.scalar("i32", [*shape, *fill, *strides, *fill])
    case.scalar("u16", [len(shape), 0, 0, 0])


def compiled():
    """The module's PTX."""
    with tempfile.TemporaryDirectory() as folder:
        wp.compile_aot_module(__name__, arch=80, module_dir=folder, use_ptx=True, strip_hash=True)
        return next(Path(folder).glob("*.ptx")).read_text()


def only(ptx, kernel):
    """The module without its other kernels."""
    parts = re.split(r"(?=\n\.visible \.entry )", ptx)
    name = f"{kernel}_cuda_kernel_forward"
    return parts[0] + next(part for part in parts[1:] if f".entry {name}(" in part)


def cases():
    """Every kernel with its arguments."""
    ptx = compiled()

    def start(kernel, shape, block=256):
        size = int(np.prod(shape))
        case = Case(kernel.key, only(ptx, kernel.key), f"{kernel.key}_cuda_kernel_forward", [-(-size // block)], [block])
        case.scalar("u32", list(shape))
        case.scalar("u64", [size, 1])
        return case

    x, y = numbers(300, 1), numbers(300, 2)
    case = start(saxpy, (300,))
    array(case, "input", x)
    array(case, "update", y, pair=(y, np.float32(2.5) * x + y), absolute=1e-6)
    case.scalar("f32", 2.5)
    yield case
    x, v = numbers((200, 3), 3, 2.0), numbers((200, 3), 4, 2.0)
    p, u = x.astype(float), v.astype(float)
    r2 = (p * p).sum(1, keepdims=True) + 0.01
    u = u - p * (0.0625 / (r2 * np.sqrt(r2)))
    length = np.linalg.norm(u, axis=1, keepdims=True)
    u = np.where(length > 2, u / length * 2, u)
    case = start(integrate, (200,))
    array(case, "update", x, (3,), pair=(x, (p + u * 0.0625).astype(np.float32)), absolute=1e-5)
    array(case, "update", v, (3,), pair=(v, u.astype(np.float32)), absolute=1e-5)
    case.scalar("f32", 0.0625)
    yield case
    q, x = numbers((50, 4), 5) + np.float32(0.0078125), numbers((50, 3), 6)
    n = q.astype(float) / np.linalg.norm(q, axis=1, keepdims=True)
    t = 2 * np.cross(n[:, :3], x)
    case = start(rotate, (50,))
    array(case, "input", q, (4,))
    array(case, "input", x, (3,))
    array(case, "output", (x + n[:, 3:] * t + np.cross(n[:, :3], t)).astype(np.float32), (3,), absolute=1e-6)
    yield case
    m = numbers((40, 3, 3), 7) + 2 * np.eye(3, dtype=np.float32)
    case = start(inverses, (40,))
    array(case, "input", m, (3, 3))
    array(case, "output", np.linalg.inv(m.astype(float)).astype(np.float32), (3, 3), absolute=1e-4, relative=1e-4)
    array(case, "output", np.linalg.det(m.astype(float)).astype(np.float32), absolute=1e-5)
    yield case
    case = start(singular_values, (40,))
    array(case, "input", m, (3, 3))
    array(case, "output", np.linalg.svd(m.astype(float))[1].astype(np.float32), (3,), absolute=1e-4)
    yield case
    x = np.random.default_rng(8).integers(0, 20, 500).astype(np.int32)
    case = start(histogram, (500,))
    array(case, "input", x)
    zeros = np.zeros(20, dtype=np.int32)
    array(case, "update", zeros, pair=(zeros, np.bincount(x, minlength=20).astype(np.int32)))
    yield case
    x, zero = numbers(400, 9), np.zeros(1, dtype=np.float32)
    case = start(extremes, (400,))
    array(case, "input", x)
    array(case, "update", zero, pair=(zero, x.min(keepdims=True)))
    array(case, "update", zero, pair=(zero, x.max(keepdims=True)))
    yield case
    u = numbers((12, 30), 10)
    want = u.copy()
    want[1:-1, 1:-1] = 0.25 * (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:])
    case = start(stencil, (12, 30))
    array(case, "input", u)
    array(case, "update", u, pair=(u, want), absolute=1e-6)
    yield case
    x, at = numbers((30, 3), 11), np.random.default_rng(12).integers(0, 30, (100, 2)).astype(np.int32)
    d = np.linalg.norm(x[at[:, 0]].astype(float) - x[at[:, 1]], axis=1)
    f = np.where(d > 0.5, d - 0.5, 0.5 * (d - 0.5))
    case = start(energy, (100,))
    array(case, "input", x, (3,))
    array(case, "input", at)
    array(case, "update", zero, pair=(zero, np.array([(0.5 * f * f).sum()], dtype=np.float32)), relative=1e-5)
    yield case
