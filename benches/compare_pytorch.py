#!/usr/bin/env python3
"""Times PyTorch on the work that kernel-bench times: whole decode steps, attention of decode shapes, matrix products.

Steps are of a model of random weights in bf16 with the sizes of a known one, written in plain PyTorch with a static KV cache
and compiled by torch.compile with CUDA graphs; its ops are those of a Llama, one matrix a product. Attention is
scaled_dot_product_attention, products are torch.nn.functional.linear (cuBLAS), both in CUDA graphs over buffers that take
turns and are larger than L2. The JSON has the form of `kernel-bench run --json`, so that `kernel-bench report` puts the two
beside each other. Needs PyTorch 2.5 or later; with `--device cpu --quick` it runs anywhere, on a model of no use but for tests.
"""

import argparse
import json
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

# hidden, feed-forward, layers, query heads, KV heads, head size, vocabulary, norms over heads, own head matrix
SHAPES = {
    "tiny": (256, 512, 2, 4, 2, 64, 512, False, False),
    "smollm2-135m": (576, 1536, 30, 9, 3, 64, 49152, False, False),
    "llama-3.2-1b": (2048, 8192, 16, 32, 8, 64, 128256, False, False),
    "llama-3.1-8b": (4096, 14336, 32, 32, 8, 128, 128256, False, True),
    "qwen3-8b": (4096, 12288, 36, 32, 8, 128, 151936, True, True),
}
ROWS = (1, 2, 4, 8, 16, 32, 64)
COPY_BYTES = 1 << 30
# Launches between two events; a step's own launch is hidden behind the one before.
STEPS = 8


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).type_as(x) * self.weight


class Layer(nn.Module):
    def __init__(self, shape, positions):
        super().__init__()
        hidden, ffn, _, heads, kv_heads, size, _, head_norms, _ = shape
        self.heads, self.kv_heads, self.size = heads, kv_heads, size
        matrix = lambda k, n: nn.Linear(k, n, bias=False)
        self.q, self.k, self.v = matrix(hidden, heads * size), matrix(hidden, kv_heads * size), matrix(hidden, kv_heads * size)
        self.o = matrix(heads * size, hidden)
        self.gate, self.up, self.down = matrix(hidden, ffn), matrix(hidden, ffn), matrix(ffn, hidden)
        self.norm, self.ffn_norm = Norm(hidden), Norm(hidden)
        self.q_norm, self.k_norm = (Norm(size), Norm(size)) if head_norms else (nn.Identity(), nn.Identity())
        for name in ("key_cache", "value_cache"):
            self.register_buffer(name, torch.zeros(1, kv_heads, positions, size))

    def forward(self, x, position, mask, cos, sin):
        y = self.norm(x)
        split = lambda z, heads: z.view(1, -1, heads, self.size).transpose(1, 2)
        q, k, v = split(self.q(y), self.heads), split(self.k(y), self.kv_heads), split(self.v(y), self.kv_heads)
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)
        self.key_cache.index_copy_(2, position, k)
        self.value_cache.index_copy_(2, position, v)
        attended = F.scaled_dot_product_attention(q, self.key_cache, self.value_cache, attn_mask=mask, enable_gqa=True)
        x = x + self.o(attended.transpose(1, 2).reshape(1, -1, self.heads * self.size))
        y = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


class Model(nn.Module):
    def __init__(self, shape, positions):
        super().__init__()
        hidden, _, layers, _, _, size, vocab, _, own_head = shape
        self.embedding = nn.Embedding(vocab, hidden)
        self.layers = nn.ModuleList(Layer(shape, positions) for _ in range(layers))
        self.norm = Norm(hidden)
        self.head = nn.Linear(hidden, vocab, bias=False)
        if not own_head:
            self.head.weight = self.embedding.weight
        pairs = torch.arange(0, size, 2, dtype=torch.float32)
        angles = torch.outer(torch.arange(positions, dtype=torch.float32), 1e4 ** (-pairs / size)).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        self.register_buffer("all_positions", torch.arange(positions))

    def forward(self, tokens, position):
        """tokens and position: [rows]. The most likely token after each row."""
        x = self.embedding(tokens)[None]
        mask = self.all_positions[None, :] <= position[:, None]
        cos, sin = self.cos[position].type_as(x), self.sin[position].type_as(x)
        for layer in self.layers:
            x = layer(x, position, mask, cos, sin)
        return self.head(self.norm(x)).argmax(-1)


class Bench:
    def __init__(self, options):
        self.device = torch.device(options.device)
        self.is_cuda = self.device.type == "cuda"
        if self.is_cuda:
            torch.cuda.set_device(self.device)
            self.l2 = getattr(torch.cuda.get_device_properties(self.device), "L2_cache_size", 64 << 20)
        else:
            self.l2 = 1 << 20
        self.measurements = options.iterations or (5 if options.quick else 20)
        self.records, self.failures = [], []

    def time(self, run, launches):
        """Seconds of one of the launches that `run` makes, after three runs that are not counted."""
        times = []
        for number in range(self.measurements + 3):
            if self.is_cuda:
                begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                begin.record()
                run()
                end.record()
                end.synchronize()
                seconds = begin.elapsed_time(end) / 1e3
            else:
                start = time.perf_counter()
                run()
                seconds = time.perf_counter() - start
            if number >= 3:
                times.append(seconds / launches)
        return {"median": statistics.median(times), "least": min(times), "most": max(times), "measurements": len(times)}

    def graph(self, run):
        """The same launches without the host's part in them."""
        if not self.is_cuda:
            return run
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay

    def turns(self, size):
        """Buffers of a size that together are more than L2 holds by far."""
        return max(1, min(64, -(-4 * self.l2 // size)))

    def random(self, *shape):
        return torch.randn(*shape, device=self.device, dtype=torch.bfloat16) * 0.02

    def copy_rate(self):
        size = COPY_BYTES // 2 if self.is_cuda else 1 << 24
        source, target = (torch.zeros(size, dtype=torch.uint8, device=self.device) for _ in range(2))
        return 2 * size / self.time(lambda: target.copy_(source), 1)["median"]

    def add(self, op, name, layers, rows, context, size, measure):
        print(f"compare_pytorch: {op} of {name}, {rows} rows", file=sys.stderr)
        try:
            found = measure()
        except Exception as error:  # What PyTorch cannot run here is noted; the rest still counts.
            self.failures.append(f"{op} of {name}, {rows} rows: {type(error).__name__}: {str(error)[:300]}")
            return
        self.records.append({"op": op, "shape": name, "layers": layers, "format": "bf16", "rows": rows, "context": context,
                             "streamed_bytes": size, "time": found})

    def product(self, rows, n, k):
        size = 2 * n * k
        weights = [self.random(n, k) for _ in range(self.turns(size))]
        x = self.random(rows, k)
        return self.time(self.graph(lambda: [F.linear(x, weight) for weight in weights]), len(weights))

    def attention(self, shape, rows, context):
        _, _, _, heads, kv_heads, size, *_ = shape
        length = context + rows
        count = self.turns(4 * kv_heads * length * size)
        caches = [(self.random(1, kv_heads, length, size), self.random(1, kv_heads, length, size)) for _ in range(count)]
        q = self.random(1, heads, rows, size)
        # One row sees everything; of several each sees itself and what is before it.
        places = torch.arange(length, device=self.device)
        mask = None if rows == 1 else places[None, :] <= places[context:, None]
        run = lambda: [F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True) for k, v in caches]
        return self.time(self.graph(run), count)

    def steps(self, model, rows, context, compiled):
        vocab = model.embedding.num_embeddings
        tokens = torch.arange(rows, device=self.device) * 7 % vocab
        position = torch.arange(context, context + rows, device=self.device)
        if compiled:
            torch.compiler.reset()
            model = torch.compile(model, fullgraph=True, mode="reduce-overhead")
        launches = STEPS if self.is_cuda else 1

        def run():
            for _ in range(launches):
                if compiled:
                    torch.compiler.cudagraph_mark_step_begin()
                model(tokens, position)

        return self.time(run, launches)

    def shape(self, name, options):
        shape = SHAPES[name]
        if options.layers:
            shape = (*shape[:2], options.layers, *shape[3:])
        hidden, ffn, layers, heads, kv_heads, size, vocab, _, _ = shape
        products = {"qkv": ((heads + 2 * kv_heads) * size, hidden), "o": (hidden, heads * size), "gate-up": (2 * ffn, hidden),
                    "down": (hidden, ffn), "head": (vocab, hidden)}
        for op, (n, k) in products.items():
            for rows in options.rows:
                self.add(op, name, layers, rows, options.context[0], 2 * n * k, lambda: self.product(rows, n, k))
        for context in options.context:
            for rows in options.rows:
                read = 4 * kv_heads * size * (context + rows)
                self.add("attention", name, layers, rows, context, read, lambda: self.attention(shape, rows, context))
        with torch.device(self.device):
            torch.set_default_dtype(torch.bfloat16)
            model = Model(shape, max(options.context) + max(options.rows)).eval()
            torch.set_default_dtype(torch.float32)
        model.requires_grad_(False)
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.02)
        weights = 2 * sum(n * k for op, (n, k) in products.items() if op != "head") * layers + 2 * vocab * hidden
        for context in options.context:
            for rows in options.rows:
                self.add("step", name, layers, rows, context, weights,
                         lambda: self.steps(model, rows, context, options.compile))


def numbers(text):
    return [int(number) for number in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cuda:N or cpu")
    parser.add_argument("--shape", type=lambda text: text.split(","), help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--rows", type=numbers)
    parser.add_argument("--context", type=numbers, help="positions before the rows")
    parser.add_argument("--layers", type=int, help="fewer than the model has")
    parser.add_argument("--iterations", type=int, help="measurements of each")
    parser.add_argument("--quick", action="store_true", help="fewer shapes, rows and measurements")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="torch.compile for steps; not on a cpu")
    parser.add_argument("--json", help="a file; standard output without it")
    options = parser.parse_args()
    on_cpu = options.device == "cpu"
    if options.compile is None:
        options.compile = not on_cpu
    options.shape = options.shape or (["tiny"] if on_cpu else ["llama-3.2-1b", "llama-3.1-8b", "qwen3-8b"][:2 if options.quick else 3])
    options.rows = options.rows or ([1, 8] if options.quick else list(ROWS))
    options.context = options.context or ([512] if options.quick or on_cpu else [512, 4096])
    unknown = [name for name in options.shape if name not in SHAPES]
    if unknown:
        parser.error(f"{unknown[0]} is no model known by name; there are {', '.join(SHAPES)}")
    if not on_cpu and not torch.cuda.is_available():
        sys.exit("compare_pytorch: PyTorch sees no GPU; --device cpu --quick shows that this program works")

    torch.manual_seed(0)
    bench = Bench(options)
    with torch.no_grad():
        rate = bench.copy_rate()
        for name in options.shape:
            bench.shape(name, options)
            if bench.is_cuda:
                torch.cuda.empty_cache()
    report = {
        "format": 1, "tool": "pytorch", "version": torch.__version__, "cuda": torch.version.cuda,
        "compiled": options.compile,
        "device": {"name": torch.cuda.get_device_name(bench.device) if bench.is_cuda else "cpu", "is_virtual": False},
        "rates": {"copy": rate}, "records": bench.records, "failures": bench.failures,
    }
    for record in bench.records:
        record["bytes_per_second"] = record["streamed_bytes"] / record["time"]["median"]
        record["share_of_copy"] = record["bytes_per_second"] / rate
    text = json.dumps(report, indent=2) + "\n"
    if options.json:
        with open(options.json, "w") as file:
            file.write(text)
    else:
        print(text, end="")
    for failure in bench.failures:
        print(f"compare_pytorch: {failure}", file=sys.stderr)
    sys.exit(1 if bench.failures else 0)


if __name__ == "__main__":
    main()
