"""Runs an export in the transformers library and holds it against what its checkpoint says.

verify_hf.py EXPORT WORK reads WORK/request.json and WORK/logits.safetensors and prints one JSON object.
"""

import json
import sys

import torch
import transformers
from safetensors.torch import load_file

export, work = sys.argv[1:]
with open(f"{work}/request.json") as f:
    request = json.load(f)
tokens = torch.tensor(request["tokens"])  # [B, T]
logits = load_file(f"{work}/logits.safetensors")["logits"]  # [B, T, V]
model = transformers.AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32, trust_remote_code=True).eval()
torch.set_grad_enabled(False)
B, T = tokens.shape


def apart(x, y):
    return (x - y).abs().max().item()


whole = model(tokens).logits
report = {
    "library": f"transformers {transformers.__version__}, torch {torch.__version__}",
    "class": type(model).__name__,
    "logits": apart(whole, logits),
}

# A prompt of half the tokens and then one token at a time, through the cache.
cache = transformers.DynamicCache(config=model.config)
out = model(tokens[:, : T // 2], past_key_values=cache, use_cache=True)
pieces = [out.logits]
for t in range(T // 2, T):
    out = model(tokens[:, t : t + 1], past_key_values=out.past_key_values, use_cache=True)
    pieces.append(out.logits)
report["steps"] = apart(torch.cat(pieces, 1), logits)
layer = out.past_key_values.layers[0]
kept = layer.keys.shape[2]  # a window keeps fewer than T
report["cache_elements"] = (layer.keys.numel() + layer.values.numel()) // (B * kept)

# Rows of several lengths in one batch, padded on the left.
lengths = [T - b * (T // (2 * B)) for b in range(B)]
padded, seen = torch.zeros_like(tokens), torch.zeros_like(tokens)
for b, n in enumerate(lengths):
    padded[b, T - n :], seen[b, T - n :] = tokens[b, :n], 1
places = (seen.cumsum(-1) - 1).clamp(min=0)
for name, more in (("padded", {"position_ids": places}), ("padded_without_positions", {})):
    if more or report["class"] == "HeadroomForCausalLM":
        out = model(padded, attention_mask=seen, **more).logits
        report[name] = max(apart(out[b, T - n :], logits[b, :n]) for b, n in enumerate(lengths))

# Greedy text: alone, without a cache, and in a padded batch.
prompt, want = torch.tensor([request["prompt"]]), request["greedy"]
ask = dict(max_new_tokens=len(want), min_new_tokens=len(want), do_sample=False, pad_token_id=0, eos_token_id=None)
for name, more in (("greedy_equal", {}), ("greedy_uncached_equal", {"use_cache": False})):
    got = model.generate(prompt, attention_mask=torch.ones_like(prompt), **more, **ask)[0, prompt.shape[1] :].tolist()
    report[name] = sum(a == b for a, b in zip(got, want))
beside = torch.cat((torch.zeros(1, 3, dtype=torch.long), prompt), 1)
longer = torch.cat((tokens[:1, :3], prompt), 1)
seen = torch.ones(2, beside.shape[1], dtype=torch.long)
seen[0, :3] = 0
got = model.generate(torch.cat((beside, longer)), attention_mask=seen, **ask)[0, beside.shape[1] :].tolist()
report["greedy_padded_equal"] = sum(a == b for a, b in zip(got, want))

# The same in bf16, as it would be served.
half = transformers.AutoModelForCausalLM.from_pretrained(export, dtype=torch.bfloat16, trust_remote_code=True).eval()
report["bf16_logits"] = apart(half(tokens).logits.float(), logits)

# The tokenizer, where there is one.
if request.get("texts"):
    tokenizer = transformers.AutoTokenizer.from_pretrained(export, trust_remote_code=True)
    both = list(zip(request["texts"], request["text_tokens"]))
    report["tokenizer_equal"] = all(tokenizer(text)["input_ids"] == ids for text, ids in both)
    report["decoded_equal"] = all(tokenizer.decode(ids, skip_special_tokens=True) == text for text, ids in both)
    report["end"], report["begin"] = tokenizer.eos_token_id, tokenizer.bos_token_id
print(json.dumps(report))
