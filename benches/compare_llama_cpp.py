#!/usr/bin/env python3
"""Runs our benchmark and llama.cpp's in turns and prints medians and ratios; see compare-llama-cpp.sh.

Taking turns matters on a shared or a throttling machine: what slows one round slows both. Which of the two goes
first alternates too. Standard library only.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

PROMPT = 512
GENERATE = 128
ROWS = 8


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nexit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def busy_elsewhere(seconds=2.0):
    """The share of processor time that others take while we wait, stolen time included; None where it is unknown."""
    def counters():
        with open("/proc/stat") as file:
            values = [int(value) for value in file.readline().split()[1:9]]
        return sum(values), values[3] + values[4]  # all of it; idle and waiting for a disk

    try:
        total, idle = counters()
        time.sleep(seconds)
        later, later_idle = counters()
    except (OSError, ValueError, IndexError):
        return None
    return 1 - (later_idle - idle) / max(later - total, 1)


def ours(options):
    out = json.loads(run([options.generate, "bench", "-m", options.model, "-t", str(options.threads),
                          "--prompt-len", str(PROMPT), "--gen-len", str(GENERATE), "--rows", f"1,{ROWS}",
                          "--json", *options.bench_flag]).strip().splitlines()[-1])
    steps = out["step_seconds"]
    return {"prefill": out["prefill_tokens_per_second"], "decode": out["decode_tokens_per_second"],
            "rows 1": steps["1"], f"rows {ROWS}": steps[str(ROWS)]}


def theirs(options):
    bench = json.loads(run([f"{options.peer}/llama-bench", "-m", options.model, "-t", str(options.threads),
                            "-p", str(PROMPT), "-n", str(GENERATE), "-r", str(options.repeats), "-o", "json"]))
    found = {"prefill": [], "decode": [], "rows 1": [], f"rows {ROWS}": []}
    for test in bench:
        found["prefill" if test["n_prompt"] else "decode"] += test["samples_ts"]
    # A prompt of 16 keeps the attention of eight sequences small, as ours is in the same measurement.
    batched = run([f"{options.peer}/llama-batched-bench", "-m", options.model, "-c", "2048", "-npp", "16", "-ntg", "32",
                   "-npl", f"1,{ROWS}", "-t", str(options.threads), "-tb", str(options.threads),
                   "--output-format", "jsonl"])
    for line in batched.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            found[f"rows {row['pl']}"].append(row["t_tg"] / row["tg"])
    return found


def topology():
    """What the numbers depend on: processor, cores, threads, caches and the vector sets it has."""
    try:
        out = subprocess.run(["lscpu"], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}).stdout
    except FileNotFoundError:
        return ["lscpu is not here: no topology"]
    wanted = ("Model name", "CPU(s)", "Thread(s) per core", "Core(s) per socket", "Socket(s)", "L1d cache", "L2 cache",
              "L3 cache", "NUMA node(s)", "Hypervisor vendor")
    lines, flags = [], ""
    for line in out.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in wanted:
            lines.append(f"{key.strip()}: {value.strip()}")
        elif key.strip() == "Flags":
            flags = value.split()
    sets = [name for name in ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
                              "amx_int8") if name in flags]
    return [*lines, f"Vector sets: {' '.join(sets)}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--peer", required=True, help="the folder with llama-bench and llama-batched-bench")
    parser.add_argument("--generate", default="target/release/generate")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1, help="llama-bench's own repetitions in a round")
    parser.add_argument("--bench-flag", action="append", default=[], help="one more flag for `generate bench`")
    parser.add_argument("--busy-ok", action="store_true", help="measure although something else is running")
    parser.add_argument("--json", default="target/peers/compare.json", help="where the numbers are written")
    options = parser.parse_args()

    machine = topology()
    # llama.cpp's threads spin at barriers and lose far more than their share to a neighbour (20 times slower was
    # seen with a compiler running), so a ratio from a busy machine says nothing about either engine.
    busy = [busy_elsewhere()]
    if busy[0] is not None and busy[0] > 0.1 and not options.busy_ok:
        sys.exit(f"something else takes {busy[0]:.0%} of this machine; wait for it, or give --busy-ok for a dry run")
    samples = {"ours": {}, "llama.cpp": {}}
    for number in range(options.rounds):
        turns = [("ours", ours), ("llama.cpp", theirs)]
        for name, measure in turns if number % 2 == 0 else turns[::-1]:
            print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr)
            for key, values in measure(options).items():
                samples[name].setdefault(key, []).extend(values)
        busy.append(busy_elsewhere())

    middle = {name: {key: statistics.median(values) for key, values in rows.items()} for name, rows in samples.items()}
    us, them = middle["ours"], middle["llama.cpp"]
    batch = {name: rows[f"rows {ROWS}"] / rows["rows 1"] for name, rows in middle.items()}
    spread = lambda name, key: f"{min(samples[name][key]):.1f} to {max(samples[name][key]):.1f}"

    print("\n".join(machine))
    known = [share for share in busy if share is not None]
    print(f"Taken by others between rounds: {f'at most {max(known):.0%}' if known else 'unknown'}\n")
    print(f"| {pathlib.Path(options.model).name}, {options.threads} threads | ours | llama.cpp | ours / llama.cpp |")
    print("|---|---:|---:|---:|")
    for key, label in (("decode", f"decode, {GENERATE} tokens (tokens/s)"), ("prefill", f"prefill, {PROMPT} tokens (tokens/s)")):
        print(f"| {label} | {us[key]:.1f} ({spread('ours', key)}) | {them[key]:.1f} ({spread('llama.cpp', key)}) "
              f"| {us[key] / them[key]:.2f} |")
    for rows in (1, ROWS):
        key = f"rows {rows}"
        print(f"| one step of {rows} row{'s' if rows > 1 else ''} (ms) | {1e3 * us[key]:.2f} | {1e3 * them[key]:.2f} "
              f"| {us[key] / them[key]:.2f} |")
    print(f"| {ROWS} rows / 1 row | {batch['ours']:.2f} | {batch['llama.cpp']:.2f} | |")
    print(f"\nMedians of {options.rounds} rounds that take turns; least to greatest in brackets.")

    out = pathlib.Path(options.json)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({
        "model": pathlib.Path(options.model).name, "threads": options.threads, "rounds": options.rounds,
        "busy_elsewhere": busy, "machine": machine, "medians": middle, "rows_ratio": batch,
        "ratios": {key: us[key] / them[key] for key in us}, "samples": samples}, indent=2) + "\n")
    print(f"numbers: {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
