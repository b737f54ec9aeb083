"""Runs exports in the transformers library and records what they compute: record.py EXPORTS OUT writes OUT/NAME.json for each
directory NAME of EXPORTS, which TestWriteModeling of the package writes. Needs torch, transformers and safetensors, no
network. TestModelingRecorded holds headroom's own computation against the files, which lie beside this script.
"""

import hashlib
import json
import os
import sys
import tempfile

import torch
import transformers

exports, out = sys.argv[1:]
os.makedirs(out, exist_ok=True)
torch.set_grad_enabled(False)


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def numbers(x):
    return [float(f"{v:.7g}") for v in x.flatten().tolist()]


def load(where):
    return transformers.AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, trust_remote_code=True).eval()


def again(model):
    """The model as the library saves and loads it."""
    with tempfile.TemporaryDirectory() as where:
        model.save_pretrained(where)
        return load(where)


for name in sorted(os.listdir(exports)):
    where = os.path.join(exports, name)
    with open(os.path.join(where, "request.json")) as f:
        request = json.load(f)
    model = load(where)
    tokens, columns = torch.tensor([request["tokens"]]), request["columns"]  # [1, T]
    T, past = tokens.shape[1], request["past"]
    whole = model(tokens).logits[0][:, columns]  # [T, columns]

    # The same through the cache: a prompt, then one token at a time.
    result = model(tokens[:, :past], use_cache=True)
    steps = [result.logits[0]]
    for t in range(past, T):
        result = model(tokens[:, t : t + 1], past_key_values=result.past_key_values, use_cache=True)
        steps.append(result.logits[0])
    steps = torch.cat(steps)[:, columns]
    layers = result.past_key_values.layers
    kept = [layer.keys.shape[2] for layer in layers]

    # Greedy text, in a batch beside a longer row and padded on its left.
    prompt, ask = tokens[:, :past], dict(do_sample=False, pad_token_id=0, eos_token_id=None)
    ask |= dict(max_new_tokens=request["new"], min_new_tokens=request["new"])
    batch = torch.cat((torch.cat((torch.zeros(1, 3, dtype=torch.long), prompt), 1), torch.cat((tokens[:, -3:], prompt), 1)))
    seen = torch.ones_like(batch)
    seen[0, :3] = 0
    record = {
        "library": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "class": type(model).__name__,
        "weights": digest(os.path.join(where, "model.safetensors")),
        "code": digest(os.path.join(where, "modeling_headroom.py")) if type(model).__name__ == "HeadroomForCausalLM" else "",
        "logits": numbers(whole),
        "steps": numbers(steps),
        "cache": (layers[0].keys.numel() + layers[0].values.numel()) // kept[0],
        "kept": kept,
        "greedy": model.generate(prompt, attention_mask=torch.ones_like(prompt), **ask)[0, past:].tolist(),
        "anew": model.generate(prompt, attention_mask=torch.ones_like(prompt), use_cache=False, **ask)[0, past:].tolist(),
        "padded": model.generate(batch, attention_mask=seen, **ask)[0, batch.shape[1] :].tolist(),
        "again": (again(model)(tokens).logits[0][:, columns] - whole).abs().max().item(),
    }
    with open(os.path.join(out, name + ".json"), "w") as f:
        json.dump(record, f)
        f.write("\n")
    print(name, record["class"], "largest logit", whole.abs().max().item(), "steps apart", (steps - whole).abs().max().item())
