"""Cases for the virtual GPU: a kernel's PTX, one launch of it, and what NumPy says must come out.

`Case.write` makes three files: `NAME.ptx`, `NAME.json` (the launch, in the form that `virtual-gpu run` reads, but that
structs are taken apart: their members are arguments one after the other) and `NAME.expected.json`, a list of `{"arg",
"type", "absolute", "relative", "values"}`: the contents of one buffer after the launch. A value may be off by `absolute +
relative * |value|`. Buffers whose role is `in` must not change.
"""

import json
from pathlib import Path

import numpy as np

# NumPy's types as a case file names them. f16 is given as its bits, as bf16 is.
NAMES = {
    "float32": "f32", "float64": "f64", "int32": "i32", "uint32": "u32", "int64": "i64", "uint64": "u64",
    "uint16": "u16", "int16": "u16", "uint8": "u8", "int8": "u8", "bool": "u8", "float16": "u16",
}


def numbers(shape, seed=0, spread=1.0, dtype=np.float32):
    """Numbers of few binary digits around zero."""
    values = np.random.default_rng(seed).integers(-64, 65, shape)
    return (values * (spread / 64)).astype(dtype)


def philox(seed, offsets):
    """Philox 4x32-10, the first word, as a number in [0, 1)."""
    words = [np.asarray(offsets, dtype=np.uint64), *(np.zeros(len(offsets), dtype=np.uint64),) * 3]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        a, b = words[0] * np.uint64(0xD2511F53), words[2] * np.uint64(0xCD9E8D57)
        low = np.uint64(0xFFFFFFFF)
        words = [(b >> np.uint64(32)) ^ words[1] ^ np.uint64(k0), b & low, (a >> np.uint64(32)) ^ words[3] ^ np.uint64(k1), a & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    signed = words[0].astype(np.uint32).view(np.int32)
    return np.where(signed < 0, -signed.astype(np.int64) - 1, signed) * np.float32(4.6566127342e-10)


class Bf16:
    """An array of bf16, kept as single-precision numbers that bf16 can hold."""

    def __init__(self, numbers):
        bits = np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32)
        rounded = (bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16
        self.bits = rounded.astype(np.uint16)
        self.numbers = (self.bits.astype(np.uint32) << 16).view(np.float32)


def stored(values):
    """The type and the list of numbers by which a case file gives an array."""
    if isinstance(values, Bf16):
        return "bf16", values.bits.ravel().tolist()
    values = np.ascontiguousarray(values)
    name = NAMES[values.dtype.name]
    if values.dtype == np.float16 or values.dtype == np.int16:
        values = values.view(np.uint16)
    elif values.dtype == np.int8 or values.dtype == np.bool_:
        values = values.view(np.uint8)
    numbers = values.ravel()
    if values.dtype == np.float32:
        # The shortest decimals that give the same f32.
        return name, [float(str(number)) for number in numbers]
    return name, numbers.tolist()


def empty(elements, dtype):
    """A buffer that nobody has written before the launch."""
    name = "bf16" if dtype == "bf16" else NAMES[np.dtype(dtype).name]
    return {"buffer": name, "elements": elements, "init": "uninit", "role": "out"}


def filled(values, role="in"):
    """A buffer with contents."""
    name, numbers = stored(values)
    if not any(numbers):
        return {"buffer": name, "elements": len(numbers), "init": "zeros", "role": role}
    return {"buffer": name, "elements": len(numbers), "init": "values", "role": role, "values": numbers}


def scalar(name, value):
    """A scalar, or several members of a struct."""
    return {"scalar": name, "value": value}


class Case:
    """One launch of one kernel. Arguments are added in the kernel's order."""

    def __init__(self, name, ptx, kernel, grid, block, shared=0):
        self.name, self.ptx, self.kernel, self.shared = name, ptx, kernel, shared
        self.grid, self.block = (list(size) + [1] * (3 - len(size)) for size in (grid, block))
        self.args, self.expected = [], []

    def input(self, values):
        """A buffer that the kernel must leave as it is."""
        self.args.append(filled(values))

    def output(self, values, absolute=0.0, relative=0.0):
        """A buffer that is unwritten before the launch and holds `values` after it."""
        dtype = "bf16" if isinstance(values, Bf16) else values.dtype
        elements = values.bits.size if isinstance(values, Bf16) else values.size
        self.args.append(empty(elements, dtype))
        self.expect(values, absolute, relative)

    def update(self, before, after, absolute=0.0, relative=0.0):
        """A buffer that the kernel changes."""
        self.args.append(filled(before, "inout"))
        self.expect(after, absolute, relative)

    def scratch(self, values):
        """A buffer of the kernel's own; nothing is expected of it."""
        self.args.append(filled(values, "inout"))

    def scalar(self, name, value):
        """A scalar, or several members of a struct."""
        self.args.append(scalar(name, value))

    def expect(self, values, absolute, relative):
        """What the buffer added last holds after the launch."""
        name, numbers = stored(values)
        if not isinstance(values, Bf16):
            short = {"float16": "f16", "int16": "i16", "int8": "i8"}
            name = short.get(np.asarray(values).dtype.name, name)
        self.expected.append({
            "arg": len(self.args) - 1, "type": name, "absolute": absolute, "relative": relative, "values": numbers,
        })

    def write(self, folder):
        """Writes the three files into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        target = next(line for line in self.ptx.splitlines() if line.startswith(".target"))
        arch = target.split()[1].rstrip(",").replace("sm_", "compute_")
        launch = {
            "kernel": self.kernel, "arch": arch, "grid": self.grid, "block": self.block,
            "dynamic_shared": self.shared, "cooperative": False, "args": self.args,
        }
        (folder / f"{self.name}.ptx").write_text(self.ptx)
        for ending, tree in [("json", launch), ("expected.json", self.expected)]:
            (folder / f"{self.name}.{ending}").write_text(lines(tree))


def lines(tree):
    """JSON with one argument or buffer a line."""
    if isinstance(tree, list):
        return "[\n" + ",\n".join(json.dumps(item, separators=(",", ":")) for item in tree) + "\n]\n"
    fields = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in tree.items() if key != "args"]
    arguments = lines(tree["args"]).rstrip()
    return "{\n" + ",\n".join(fields) + ',\n"args": ' + arguments + "\n}\n"
