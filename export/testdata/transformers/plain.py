"""Writes tiny models of classes of the transformers library beside it, with random weights, and what they compute, in plain
Python: in double precision, a token after the other, from the classes' equations. config.json is as transformers 5 writes it.
Run in this directory: python3 plain.py [OUT]
"""

import json
import math
import os
import random
import struct
import sys

VOCAB, ROWS, LENGTH, PROMPT = 96, 2, 40, 8
COMMON = {
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0, "dtype": "float32", "eos_token_id": 1, "hidden_size": 32,
    "initializer_range": 0.2, "intermediate_size": 48, "max_position_embeddings": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
    "num_key_value_heads": 2, "pad_token_id": None, "transformers_version": "5.17.0", "use_cache": True, "vocab_size": VOCAB,
}
CASES = {
    "llama3": COMMON | {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "head_dim": 12, "hidden_act": "silu", "mlp_bias": False,
        "pretraining_tp": 1, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
        "rope_parameters": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 32,
                            "rope_theta": 500.0, "rope_type": "llama3"},
    },
    "qwen3": COMMON | {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 12, "hidden_act": "silu",
        "layer_types": ["full_attention"] * 2, "max_window_layers": 28, "rms_norm_eps": 1e-6, "sliding_window": None,
        "tie_word_embeddings": False, "use_sliding_window": False, "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"},
    },
    "mistral": COMMON | {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "head_dim": 12, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "sliding_window": 5, "tie_word_embeddings": False, "rope_parameters": {"rope_theta": 700.0, "rope_type": "default"},
    },
    "olmo2": COMMON | {
        "architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False, "rope_parameters": {"rope_theta": 800.0, "rope_type": "default"},
    },
    "gemma3": COMMON | {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "head_dim": 12, "hidden_activation": "gelu_pytorch_tanh",
        "_sliding_window_pattern": 6, "attn_logit_softcapping": None, "final_logit_softcapping": None, "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "query_pre_attn_scalar": 20, "rms_norm_eps": 1e-6,
        "rope_parameters": {"full_attention": {"rope_theta": 5000.0, "rope_type": "default"},
                            "sliding_attention": {"rope_theta": 300.0, "rope_type": "default"}},
        "sliding_window": 7, "tie_word_embeddings": True, "use_bidirectional_attention": False,
    },
}


def product(w, x):
    return [sum(a * b for a, b in zip(row, x)) for row in w]


def norm(x, w, eps):
    scale = (sum(a * a for a in x) / len(x) + eps) ** -0.5
    return [a * scale * b for a, b in zip(x, w)]


def parts(x, n):
    return [x[i * len(x) // n : (i + 1) * len(x) // n] for i in range(n)]


def add(x, y):
    return [a + b for a, b in zip(x, y)]


def silu(x):
    return x / (1 + math.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def frequencies(c, dim, layer):
    """The angles of a head's pairs from one place to the next."""
    r = c["rope_parameters"]
    r = r.get(c["layer_types"][layer], r) if "layer_types" in c else r
    plain = [r["rope_theta"] ** (-2 * i / dim) for i in range(dim // 2)]
    if r["rope_type"] == "default":
        return plain
    context, scaled = r["original_max_position_embeddings"], []
    for f in plain:
        wave = 2 * math.pi / f
        if wave < context / r["high_freq_factor"]:
            scaled.append(f)
        elif wave > context / r["low_freq_factor"]:
            scaled.append(f / r["factor"])
        else:
            smooth = (context / wave - r["low_freq_factor"]) / (r["high_freq_factor"] - r["low_freq_factor"])
            scaled.append((1 - smooth) * f / r["factor"] + smooth * f)
    return scaled


def rotate(x, place, turns):
    half = len(x) // 2
    cos, sin = [math.cos(place * f) for f in turns], [math.sin(place * f) for f in turns]
    a, b = x[:half], x[half:]
    return [a[i] * cos[i] - b[i] * sin[i] for i in range(half)] + [b[i] * cos[i] + a[i] * sin[i] for i in range(half)]


class Model:
    def __init__(self, config, weights):
        self.c, self.w, self.cache, self.place = config, weights, [[] for _ in range(config["num_hidden_layers"])], 0
        self.gemma = config["model_type"] == "gemma3_text"
        if self.gemma:
            self.w = {name: x if isinstance(x[0], list) else [1 + a for a in x] for name, x in weights.items()}

    def attention(self, layer, x):
        c, at = self.c, f"model.layers.{layer}.self_attn."
        heads, groups, dim = c["num_attention_heads"], c["num_key_value_heads"], head_dim(c)
        q, k, v = (product(self.w[at + name + "_proj.weight"], x) for name in "qkv")
        if c["model_type"] == "olmo2":
            q, k = (norm(all, self.w[at + name + "_norm.weight"], c["rms_norm_eps"]) for name, all in (("q", q), ("k", k)))
        q, k, turns = parts(q, heads), parts(k, groups), frequencies(c, dim, layer)
        if c["model_type"] == "qwen3" or self.gemma:
            q, k = ([norm(head, self.w[at + name + "_norm.weight"], c["rms_norm_eps"]) for head in all] for name, all in (("q", q), ("k", k)))
        q, k = ([rotate(head, self.place, turns) for head in all] for all in (q, k))
        self.cache[layer].append((k, parts(v, groups)))
        if c.get("sliding_window") and not (self.gemma and c["layer_types"][layer] == "full_attention"):
            del self.cache[layer][: -c["sliding_window"]]
        out = []
        for h in range(heads):
            g = h * groups // heads
            scores = [sum(a * b for a, b in zip(q[h], keys[g])) * c.get("query_pre_attn_scalar", dim) ** -0.5 for keys, _ in self.cache[layer]]
            powers = [math.exp(s - max(scores)) for s in scores]
            out += [sum(p * values[g][i] for p, (_, values) in zip(powers, self.cache[layer])) / sum(powers) for i in range(dim)]
        return product(self.w[at + "o_proj.weight"], out)

    def mlp(self, layer, x):
        gate, up, down = (self.w[f"model.layers.{layer}.mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
        return product(down, [(gelu if self.gemma else silu)(a) * b for a, b in zip(product(gate, x), product(up, x))])

    def step(self, token):
        """Takes one token in, and gives the logits of the next."""
        x = self.w["model.embed_tokens.weight"][token]
        if self.gemma:
            x = [a * self.c["hidden_size"] ** 0.5 for a in x]
        for i in range(self.c["num_hidden_layers"]):
            normed = lambda name, x: norm(x, self.w[f"model.layers.{i}.{name}.weight"], self.c["rms_norm_eps"])
            if self.c["model_type"] == "olmo2":
                x = add(x, normed("post_attention_layernorm", self.attention(i, x)))
                x = add(x, normed("post_feedforward_layernorm", self.mlp(i, x)))
                continue
            if self.gemma:
                x = add(x, normed("post_attention_layernorm", self.attention(i, normed("input_layernorm", x))))
                x = add(x, normed("post_feedforward_layernorm", self.mlp(i, normed("pre_feedforward_layernorm", x))))
                continue
            x = add(x, self.attention(i, normed("input_layernorm", x)))
            x = add(x, self.mlp(i, normed("post_attention_layernorm", x)))
        self.place += 1
        head = "model.embed_tokens.weight" if self.c["tie_word_embeddings"] else "lm_head.weight"
        return product(self.w[head], norm(x, self.w["model.norm.weight"], self.c["rms_norm_eps"]))


def head_dim(c):
    return c["head_dim"] if "head_dim" in c else c["hidden_size"] // c["num_attention_heads"]


def shapes(c):
    C, F, Q, K = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"] * head_dim(c), c["num_key_value_heads"] * head_dim(c)
    s = {"model.embed_tokens.weight": (VOCAB, C), "model.norm.weight": (C,)}
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        norms = {"olmo2": ("post_attention", "post_feedforward"), "gemma3_text": ("input", "post_attention", "pre_feedforward", "post_feedforward")}
        s |= {at + name + "_layernorm.weight": (C,) for name in norms.get(c["model_type"], ("input", "post_attention"))}
        s |= {at + f"self_attn.{name}_proj.weight": shape for name, shape in {"q": (Q, C), "k": (K, C), "v": (K, C), "o": (C, Q)}.items()}
        if c["model_type"] in ("qwen3", "gemma3_text"):
            s |= {at + f"self_attn.{name}_norm.weight": (c["head_dim"],) for name in "qk"}
        if c["model_type"] == "olmo2":
            s |= {at + "self_attn.q_norm.weight": (Q,), at + "self_attn.k_norm.weight": (K,)}
        s |= {at + f"mlp.{name}_proj.weight": shape for name, shape in {"gate": (F, C), "up": (F, C), "down": (C, F)}.items()}
    if not c["tie_word_embeddings"]:
        s["lm_head.weight"] = (VOCAB, C)
    return s


def draw(shape, random, middle):
    """Values that bfloat16 has, of norms around a middle."""
    values = [random.gauss(0, 0.2) if len(shape) > 1 else middle + random.gauss(0, 0.1) for _ in range(math.prod(shape))]
    return [struct.unpack("<f", b"\0\0" + struct.pack("<f", x)[2:])[0] for x in values]


def save(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}{'f' if dtype == 'F32' else 'i'}", *values)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def likeliest(logits):
    return max(range(VOCAB), key=lambda i: logits[i])


def case(name, config, seed, out):
    r = random.Random(seed)
    flat = {tensor: (shape, draw(shape, r, 0 if config["model_type"] == "gemma3_text" else 1)) for tensor, shape in shapes(config).items()}
    w = {t: x if len(s) == 1 else [x[i : i + s[1]] for i in range(0, len(x), s[1])] for t, (s, x) in flat.items()}
    rows = [[r.randrange(VOCAB) for _ in range(LENGTH)] for _ in range(ROWS)]
    logits = []
    for row in rows:
        m = Model(config, w)
        logits += [x for token in row for x in m.step(token)]
    m, greedy = Model(config, w), rows[0][:PROMPT]
    for token in greedy:
        last = m.step(token)
    while len(greedy) < LENGTH:
        greedy.append(likeliest(last))
        last = m.step(greedy[-1])
    d = os.path.join(out, name)
    os.makedirs(d, exist_ok=True)
    with open(os.path.join(d, "config.json"), "w") as f:
        json.dump(dict(sorted(config.items())), f, indent=2)
        f.write("\n")
    save(os.path.join(d, "model.safetensors"), {t: ("F32", s, x) for t, (s, x) in flat.items()})
    save(os.path.join(d, "expected.safetensors"), {
        "tokens": ("I32", (ROWS, LENGTH), sum(rows, [])), "logits": ("F32", (ROWS, LENGTH, VOCAB), logits), "greedy": ("I32", (LENGTH,), greedy)})
    print(f"{d}: logits up to {max(map(abs, logits)):.3f}, {len(set(greedy[PROMPT:]))} different greedy tokens")


if __name__ == "__main__":
    for name, config in CASES.items():
        seed = ["llama3", "qwen3", "olmo2", "mistral", "gemma3"].index(name)
        case(name, config, seed, sys.argv[1] if len(sys.argv) > 1 else ".")
