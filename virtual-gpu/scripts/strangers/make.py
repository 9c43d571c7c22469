"""Has every compiler compile its kernels: `make.py FOLDER [FIXTURES]` makes a folder for each project in FOLDER.

In FIXTURES go those that the repository carries: PTX of functions in these files, by compilers under permissive licences,
none of it large.
"""

import importlib
import sys
from pathlib import Path

PROJECTS = ["triton", "numba", "cupy", "warp", "cccl", "wmma"]

CARRIED = {
    "numba": lambda name: True,
    "wmma": lambda name: True,
    "triton": lambda name: name in {
        *(f"{kernel}_sm80" for kernel in (
            "activations", "arg_best", "attention_causal_bf16", "bounds", "conv1d", "cross_entropy", "double_norm",
            "dropout", "fp8_round", "gather_rows", "histogram", "int4_matmul", "integers", "layer_norm",
            "layer_norm_weights", "matmul_bf16", "matmul_f32", "matmul_i8", "quantise", "rope", "scans", "scatter_add",
            "softmax", "sort_rows", "ticket_sum", "transpose", "vector_add", "welford")),
        *(f"{kernel}_sm90" for kernel in (
            "activations", "attention_causal_bf16", "fp8_round", "layer_norm", "matmul_bf16", "matmul_f16", "matmul_i8",
            "rope")),
        *("quantise_sm100", "softmax_sm100"),
        *(f"{kernel}_sm120" for kernel in ("attention_causal_bf16", "int4_matmul", "layer_norm")),
    },
}


def main():
    folder, *fixtures = map(Path, sys.argv[1:])
    for project in PROJECTS:
        count = 0
        for case in importlib.import_module(f"{project}_cases").cases():
            case.write(folder / project)
            count += 1
            if fixtures and CARRIED.get(project, lambda name: False)(case.name):
                case.write(fixtures[0] / project)
        print(f"{project}: {count} kernels", file=sys.stderr)


if __name__ == "__main__":
    main()
