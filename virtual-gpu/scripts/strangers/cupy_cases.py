"""CuPy's own kernels, as it writes them in CUDA C++ and has NVRTC compile them.

CuPy asks its runtime for a device before it generates a kernel. Seven functions of its module `runtime` answer here
instead, before the modules that call them are loaded; memory is the host's; and a launch is put down instead of made.
"""

import ctypes
import math
import os
import re
import struct

# Reductions and scans in CUDA C++, not in what CuPy has compiled itself.
os.environ["CUPY_ACCELERATORS"] = ""

import cupy_backends.cuda.api.runtime as runtime
import numpy as np

from case import Case, numbers

python = ctypes.pythonapi
python.PyCapsule_New.restype, python.PyCapsule_GetName.restype = ctypes.py_object, ctypes.c_char_p
python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
python.PyCapsule_GetName.argtypes = [ctypes.py_object]
kept = []


def answer(name, parameters, function, result=ctypes.c_int):
    """Puts `function` in the place of one that other modules of CuPy will look up by name and signature."""
    signature = python.PyCapsule_GetName(runtime.__pyx_capi__[name])
    kinds = {"i": ctypes.c_int, "p": ctypes.c_ssize_t}
    function = ctypes.PYFUNCTYPE(result, *[kinds[kind] for kind in parameters])(function)
    kept.append((function, signature))
    runtime.__pyx_capi__[name] = python.PyCapsule_New(ctypes.cast(function, ctypes.c_void_p), signature, None)


def fill(address, value, size, stream, _):
    ctypes.memset(address, value, size)
    written.add(address)


def copy(target, source, size, kind, stream, _):
    ctypes.memmove(target, source, size)
    written.add(target)


CAPABILITY = {75: 8, 76: 0}
answer("getDevice", "i", lambda _: 0)
answer("getDeviceCount", "i", lambda _: 1)
answer("deviceGetAttribute", "iii", lambda attribute, device, _: CAPABILITY.get(attribute, 0))
answer("runtimeGetVersion", "i", lambda _: 13000)
answer("driverGetVersion", "i", lambda _: 13000)
answer("memsetAsync", "pippi", fill, ctypes.py_object)
answer("memcpyAsync", "pppipi", copy, ctypes.py_object)

import cupy
import cupyx
import cupyx.scipy.ndimage
import cupyx.scipy.special
from cupy.cuda import compiler, function, memory
from cupy_backends.cuda.libs import nvrtc

# Allocations: address to NumPy's bytes. Those that hold something before the launch are in `written`.
allocations, written, launches = {}, set(), []


def allocate(size):
    contents = np.zeros(max(size, 1) + 512, dtype=np.uint8)
    start = -contents.ctypes.data % 512
    contents = contents[start:start + max(size, 1)]
    allocations[contents.ctypes.data] = contents
    return memory.MemoryPointer(memory.UnownedMemory(contents.ctypes.data, size, contents, device_id=0), 0)


cupy.cuda.set_allocator(allocate)


class Function(function.Function):
    """A kernel whose launches are put down."""

    def __init__(self, name, ptx):
        self.kernel, self.ptx = name, ptx

    def linear_launch(self, size, args, shared_mem=0, block_max_size=128, stream=None, enable_cooperative_groups=False):
        block = min(block_max_size, size)
        launches.append((self, [-(-size // block)], [block], list(args), shared_mem))

    def __call__(self, grid, block, args, shared_mem=0, stream=None, enable_cooperative_groups=False):
        launches.append((self, list(grid), list(block), list(args), shared_mem))


class Module(function.Module):
    """A compiled source."""

    def __init__(self, ptx):
        self.ptx = ptx

    def get_function(self, name):
        return Function(name, self.ptx)


def compile(source, options=(), *_, **__):
    program = nvrtc.createProgram(source, "kernel.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*options, "--gpu-architecture=compute_80", "--device-as-default-execution-space"))
    except nvrtc.NVRTCError as error:
        raise RuntimeError(nvrtc.getProgramLog(program)[:2000]) from error
    ptx = nvrtc.getPTX(program)
    return Module(ptx.decode() if isinstance(ptx, bytes) else ptx)


compiler._compile_module_with_cache = compile


def device(values):
    """NumPy's array as CuPy's."""
    values = np.asarray(values)
    array = cupy.ndarray(values.shape, dtype=values.dtype)
    host(array)[...] = values
    written.add(array.data.mem.ptr)
    return array


def host(array):
    """The memory of CuPy's array as an array of NumPy."""
    contents = allocations[array.data.mem.ptr]
    return np.ndarray(array.shape, array.dtype, contents, array.data.ptr - array.data.mem.ptr, array.strides)


def real(values):
    """Complex numbers as pairs."""
    values = np.ascontiguousarray(values)
    if values.dtype.kind == "c":
        return values.view(values.real.dtype)
    return values


def parameters(ptx, kernel):
    """Types of the kernel's parameters, as PTX writes them; of a struct its size in bytes."""
    text = ptx[ptx.index(f".entry {kernel}("):]
    text = text[:text.index(")")]
    found = re.findall(r"\.param (?:\.align \d+ )?\.(\w+) \w+(?:\[(\d+)\])?", text)
    return [int(size) if size else kind for kind, size in found]


def scalar(arg, kind):
    """The value of a scalar of CuPy's: behind the object's header lies where its value is."""
    address = ctypes.c_void_p.from_address(id(arg) + 16).value
    formats = {"f32": "f", "f64": "d", "u32": "i", "u64": "q", "u16": "H", "u8": "B"}
    names = {"f": "f32", "d": "f64", "i": "i32", "q": "i64", "H": "u16", "B": "u8"}
    form = {8: "ff", 16: "dd"}[kind] if isinstance(kind, int) else formats[kind]
    values = struct.unpack(form, ctypes.string_at(address, struct.calcsize(form)))
    return names[form[0]], values[0] if len(values) == 1 else list(values)


def argument(case, arg, kind, result, want, tolerance):
    """Adds an argument as CuPy passes it: structs member by member."""
    if isinstance(arg, cupy.ndarray):
        whole = allocations[arg.data.mem.ptr][arg.data.ptr - arg.data.mem.ptr:]
        contents = real(whole[:whole.size // arg.itemsize * arg.itemsize].view(arg.dtype))
        is_result = arg.data.ptr == result.data.ptr
        if is_result:
            after = contents.copy()
            places = np.ndarray(result.shape, result.dtype, after, 0, result.strides)
            places[...] = want
        if arg.data.mem.ptr not in written:
            # What an operation needs beyond its result is its own business.
            case.output(after, **tolerance) if is_result else case.scratch(contents)
        elif is_result:
            case.update(contents, after, **tolerance)
        else:
            case.input(contents)
        case.scalar("i64", [arg.size, *arg.shape, *arg.strides])
        return
    if type(arg).__name__ == "Indexer":
        case.scalar("i64", [arg.size, *arg.shape, *[0] * len(arg.shape)])
        return
    case.scalar(*scalar(arg, kind))


def case(name, operation, want, inputs, which=0, count=1, **tolerance):
    """The launch that `operation` makes of NumPy's `inputs`."""
    launches.clear()
    written.clear()
    arrays = [device(values) for values in inputs]
    result = operation(*arrays)
    if len(launches) != count:
        raise RuntimeError(f"{name}: {[launch[0].kernel for launch in launches]}")
    kernel, grid, block, args, shared = launches[which]
    made = Case(name, kernel.ptx, kernel.kernel, grid, block, shared)
    for arg, kind in zip(args, parameters(kernel.ptx, kernel.kernel), strict=True):
        argument(made, arg, kind, result, want, tolerance)
    return made


@cupy.fuse()
def fused(p, q):
    return cupy.sqrt(p * p + q * q) * cupy.exp(-q)


def cases():
    """The kernels behind CuPy's functions, each with an operation of NumPy that does the same."""
    x, y = numbers((16, 20), 1), numbers((16, 20), 2)
    near = {"absolute": 2e-6, "relative": 2e-6}
    yield case("add", lambda a, b: a + b, x + y, [x, y])
    yield case("add_strided", lambda a: a[::2, 3:] + 1, x[::2, 3:] + 1, [x])
    yield case("arctan2_broadcast", lambda a, b: cupy.arctan2(a, b), np.arctan2(x, y[0]), [x, y[0]], **near)
    yield case("multiply_f16", lambda a, b: a * b, x.astype(np.float16) * y.astype(np.float16), [x.astype(np.float16), y.astype(np.float16)])
    c = (x + 1j * y).astype(np.complex64)
    yield case("exp_complex", lambda a: cupy.exp(a), np.exp(c), [c], **near)
    z = c.astype(np.complex128)
    yield case("divide_complex", lambda a, b: a / b, z / (z[::-1] + 3), [z, np.ascontiguousarray(z[::-1]) + 3], absolute=1e-14)
    i, j = (np.random.default_rng(seed).integers(-50, 50, (16, 20)).astype(np.int32) for seed in (1, 2))
    yield case("floor_divide", lambda a, b: a // b, i // np.where(j == 0, 7, j), [i, np.where(j == 0, 7, j).astype(np.int32)])
    yield case("power", lambda a: a ** 3, i ** 3, [i])
    yield case("is_close", lambda a, b: cupy.isclose(a, b, atol=0.25), np.isclose(x, y, atol=0.25), [x, y])
    yield case("clip", lambda a: cupy.clip(a, -0.5, 0.5), np.clip(x, -0.5, 0.5), [x])
    yield case("sinc", lambda a: cupy.sinc(a), np.sinc(x.astype(float)).astype(np.float32), [x], **near)
    each = np.vectorize(lambda v: math.gamma(v))
    p = np.abs(x) + np.float32(0.5)
    yield case("gamma", lambda a: cupyx.scipy.special.gamma(a), each(p.astype(float)).astype(np.float32), [p], relative=3e-6)
    yield case("erf", lambda a: cupyx.scipy.special.erf(a), np.vectorize(math.erf)(x.astype(float)), [x.astype(float)], absolute=1e-15, relative=1e-14)
    yield case("digamma", lambda a: cupyx.scipy.special.digamma(a), digamma(p.astype(float) + 2), [p.astype(float) + 2], absolute=1e-12)
    yield case("sum", lambda a: a.sum(), x.sum(dtype=float).astype(np.float32), [x], absolute=1e-5)
    yield case("sum_columns", lambda a: a.sum(axis=0), x.sum(0, dtype=float).astype(np.float32), [x], absolute=1e-5)
    yield case("sum_rows", lambda a: a.sum(axis=1), x.sum(1, dtype=float).astype(np.float32), [x], absolute=1e-5)
    yield case("product", lambda a: cupy.prod(a, axis=1), (x + 1).prod(1, dtype=float).astype(np.float32), [x + 1], absolute=1e-9, relative=1e-5)
    yield case("argmax", lambda a: a.argmax(axis=1), x.argmax(1), [x])
    yield case("norm", lambda a: cupy.linalg.norm(a, axis=1), np.linalg.norm(x.astype(float), axis=1).astype(np.float32), [x], relative=1e-5)
    yield case("all", lambda a: a.all(axis=1), (x > -0.9).all(1), [x > -0.9])
    yield case("take", lambda a, at: cupy.take(a, at, axis=0), x[[3, 15, 2]], [x, np.array([3, 15, 2])])
    n = np.arange(20.0)
    yield case("search_sorted", lambda a, b: cupy.searchsorted(a, b), np.searchsorted(n, 20 * y[0].astype(float)), [n, 20 * y[0].astype(float)])
    want = x[0].copy()
    np.add.at(want, [1, 1, 2], y[0, :3])
    yield case("scatter_add", scatter, want, [x[0], np.array([1, 1, 2]), y[0, :3]], absolute=1e-6)
    padded = np.pad(x, 1, mode="symmetric").astype(float)
    want = sum(padded[r:r + 16, s:s + 20] * y[r, s] for r in range(3) for s in range(3)).astype(np.float32)
    yield case("correlate", lambda a, w: cupyx.scipy.ndimage.correlate(a, w), want, [x, np.ascontiguousarray(y[:3, :3])], absolute=1e-5)
    yield case("fused_elementwise", lambda a, b: fused(a, b), np.sqrt(x * x + y * y) * np.exp(-y), [x, y], **near)


def scatter(target, at, values):
    cupyx.scatter_add(target, at, values)
    return target


def digamma(x):
    """By the series of large numbers."""
    total = np.zeros_like(x)
    while (x < 30).any():
        total -= np.where(x < 30, 1 / x, 0)
        x = np.where(x < 30, x + 1, x)
    return total + np.log(x) - 1 / (2 * x) - 1 / (12 * x ** 2) + 1 / (120 * x ** 4) - 1 / (252 * x ** 6)
