#!/usr/bin/env python3
"""Parity with transformers on a real model: greedy continuations of 20 prompts, 64 tokens each.

    python3 -m venv /tmp/stheno-reference
    /tmp/stheno-reference/bin/pip install torch transformers gguf numpy
    P="/tmp/stheno-reference/bin/python benches/parity/real_model.py"
    MODEL=$(scripts/fetch-model.sh)

    $P reference -m $MODEL --prompts spec_bench_dev.jsonl -o tests/fixtures/real/smollm2_greedy.json
    $P compare   -m $MODEL [--generate target/release/generate] [--activation-dtype f32] [-t 2]
    $P perplexity -m $MODEL -o tests/fixtures/real/smollm2_perplexity.json

`reference` dequantizes every tensor of the GGUF to float32, loads them into transformers (eager attention, float32)
and continues the first turn of the first 20 questions, rendered with the model's chat template. It writes

    {"model": {"file", "sha256"}, "tokens": 64, "prompts": [
        {"question_id", "text": rendered prompt, "prompt_ids", "greedy_ids", "margins"}]}

where margins[i] is the difference of the two largest logits at the step that chose greedy_ids[i]. The end-of-text
token does not stop a continuation. The questions kept in the fixture are from Spec-Bench (Apache-2.0).

`compare` (standard library only) runs `generate` on the same ids and applies the rule: ids are equal wherever the
margin exceeds 0.05. A difference at a smaller margin is a tie broken the other way; what follows it is another text,
so the comparison of that prompt ends there. Exit status 1 if any id differs at a larger margin.

`perplexity` feeds benches/data/perplexity.txt (no special tokens) in one forward and writes {"model", "text", "tokens",
"mean_nll", "perplexity"}: the mean over every token but the first of its negative log-probability, and its exponential.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "tests/fixtures/real/smollm2_greedy.json"
PROMPTS = 20
TOKENS = 64
MARGIN = 0.05


def unpermute(weight, heads):
    """GGUF files of the Llama architecture store the rows of q and k with the two halves of a head interleaved
    (RoPE over neighbouring pairs); transformers rotates the first half of a head against the second."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def load(path):
    import gguf
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    reader = gguf.GGUFReader(path)
    field = lambda key: reader.get_field(key).contents()
    assert field("general.architecture") == "llama", "only the llama architecture is read here"
    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    state = {}
    for tensor in reader.tensors:
        weight = gguf.dequantize(tensor.data, tensor.tensor_type).astype("float32")
        if tensor.name.startswith("blk."):
            _, layer, name, _ = tensor.name.split(".")
            if name in ("attn_q", "attn_k"):
                weight = unpermute(weight, heads if name == "attn_q" else kv_heads)
            target = f"model.layers.{layer}.{NAMES[name]}.weight"
        else:
            target = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
                      "output.weight": "lm_head.weight"}[tensor.name]
        state[target] = torch.from_numpy(weight.copy())
    tied = "lm_head.weight" not in state
    if tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    config = LlamaConfig(
        vocab_size=state["model.embed_tokens.weight"].shape[0], hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"), num_hidden_layers=field("llama.block_count"),
        num_attention_heads=heads, num_key_value_heads=kv_heads, tie_word_embeddings=tied,
        max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field("llama.rope.freq_base")},
        attn_implementation="eager", dtype=torch.float32)
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(state)
    return model


def tokenizer_of(path):
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    path = pathlib.Path(path)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # transformers reads no tokenizer.ggml.pre; "smollm" is GPT-2's rule after cutting off every digit on its own.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer


def reference(arguments):
    import torch

    torch.set_num_threads(arguments.threads)
    questions = [json.loads(line) for line in open(arguments.prompts)][:PROMPTS]
    tokenizer, model = tokenizer_of(arguments.model), load(arguments.model)
    rows = []
    for question in questions:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question["turns"][0]}], tokenize=False, add_generation_prompt=True)
        ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        greedy, margins, feed, cache = [], [], ids, None
        with torch.no_grad():
            for _ in range(TOKENS):
                out = model(input_ids=torch.tensor([feed]), past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache, top = out.past_key_values, out.logits[0, -1].topk(2)
                greedy.append(top.indices[0].item())
                margins.append(round((top.values[0] - top.values[1]).item(), 5))
                feed = greedy[-1:]
        rows.append({"question_id": question["question_id"], "text": text, "prompt_ids": ids, "greedy_ids": greedy,
                     "margins": margins})
        print(f"question {question['question_id']}: {len(ids)} ids, least margin {min(margins):.4f}: "
              f"{tokenizer.decode(greedy)[:70]!r}", flush=True)
    out = pathlib.Path(arguments.output)
    out.parent.mkdir(parents=True, exist_ok=True)
    head = identity(arguments.model)
    body = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    out.write_text(f'{{"model": {json.dumps(head)},\n"tokens": {TOKENS},\n"prompts": [\n{body}\n]}}\n')


def identity(path):
    return {"file": pathlib.Path(path).name, "sha256": hashlib.sha256(open(path, "rb").read()).hexdigest()}


def perplexity(arguments):
    import torch

    torch.set_num_threads(arguments.threads)
    text = ROOT / "benches/data/perplexity.txt"
    ids = tokenizer_of(arguments.model).backend_tokenizer.encode(text.read_text(), add_special_tokens=False).ids
    with torch.no_grad():
        logits = load(arguments.model)(input_ids=torch.tensor([ids])).logits[0]
    nll = torch.nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(ids[1:])).item()
    row = {"model": identity(arguments.model), "text": str(text.relative_to(ROOT)), "tokens": len(ids),
           "mean_nll": nll, "perplexity": float(torch.tensor(nll, dtype=torch.float64).exp())}
    pathlib.Path(arguments.output).write_text(json.dumps(row, indent=2) + "\n")
    print(f"{len(ids)} tokens, perplexity {row['perplexity']:.4f}")


def compare(arguments):
    known = json.load(open(arguments.reference))
    wrong = ties = compared = 0
    for row in known["prompts"]:
        command = [arguments.generate, "-m", arguments.model, "--activation-dtype", arguments.activation_dtype,
                   "--temp", "0", "-n", str(known["tokens"]), "--tokens", ",".join(map(str, row["prompt_ids"])),
                   "--ignore-eos", "--json", "-t", str(arguments.threads)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            sys.exit(f"{' '.join(command)}\nexit {run.returncode}: {run.stderr}")
        ours = json.loads(run.stdout.strip().splitlines()[-1])["tokens"]
        verdict = "equal"
        for step, (mine, theirs, margin) in enumerate(zip(ours, row["greedy_ids"], row["margins"])):
            compared += 1
            if mine != theirs:
                tie = margin <= MARGIN
                ties, wrong = ties + tie, wrong + (not tie)
                verdict = f"step {step}: {mine}, reference {theirs}, margin {margin}" + (" (a tie)" if tie else " WRONG")
                break
        else:
            if len(ours) != len(row["greedy_ids"]):
                wrong, verdict = wrong + 1, f"{len(ours)} tokens, reference {len(row['greedy_ids'])} WRONG"
        print(f"question {row['question_id']}: {verdict}", flush=True)
    print(f"{len(known['prompts'])} prompts, {compared} tokens compared, {ties} ended at a tie, {wrong} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("reference")
    make.add_argument("--prompts", required=True, help="a JSON-lines file of questions with `turns`")
    make.add_argument("-o", "--output", default=REFERENCE)
    check = commands.add_parser("compare")
    check.add_argument("--reference", default=REFERENCE)
    check.add_argument("--generate", default=str(ROOT / "target/release/generate"))
    check.add_argument("--activation-dtype", default="f32")
    weigh = commands.add_parser("perplexity")
    weigh.add_argument("-o", "--output", default=ROOT / "tests/fixtures/real/smollm2_perplexity.json")
    for command in (make, check, weigh):
        command.add_argument("-m", "--model", required=True)
        command.add_argument("-t", "--threads", type=int, default=2)
    chosen = parser.parse_args()
    {"reference": reference, "compare": compare, "perplexity": perplexity}[chosen.command](chosen)
