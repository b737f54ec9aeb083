"""Writes the golden files of this directory: for each attention kind a tiny float32 language model with its inputs,
weights, logits, loss and the gradient of every weight.

The reference is plain PyTorch, written from the paper's equations and independent of the Go code. GQA, MHA, MQA and MLA
without biases are computed by Hugging Face's own Llama and DeepSeek-V3 models instead, and the plain formulas must
agree with them. Run in this directory: python3 gen.py [OUT]
"""

import json
import os
import sys

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file

assert torch.__version__.startswith("2.11."), torch.__version__
assert transformers.__version__.startswith("5.17."), transformers.__version__

B, T, V, C, MLP, LAYERS, H, D = 2, 7, 19, 20, 16, 2, 4, 8
EPS, THETA = 1e-5, 10000.0
torch.use_deterministic_algorithms(True)


def config(kind, groups=0, rope=0, latent=0, query=0, bias="paper"):
    return dict(kind=kind, groups=groups, heads=H, head_dim=D, rope_dim=rope, latent_dim=latent, query_latent_dim=query,
                bias=bias, rope_theta=THETA)


CASES = {
    "mha": config("mha"),
    "mqa": config("mqa"),
    "gqa-2": config("gqa", 2),
    "gta-2": config("gta", 2),
    "mla": config("mla", rope=4, latent=20, query=24),
    "mla-nobias": config("mla", rope=4, latent=20, query=24, bias="none"),
    "gla-2": config("gla", 2, rope=4, latent=12, query=24),
    "gla_q-2": config("gla_q", 2, rope=4, latent=12, query=24),
}


# ---- shapes of the weights, all [in, out] -------------------------------------------------------------------------

def groups(a):
    return {"mha": H, "mqa": 1, "mla": 1}.get(a["kind"], a["groups"])


def shapes(a):
    kind, G, R, L, Q = a["kind"], groups(a), a["rope_dim"], a["latent_dim"], a["query_latent_dim"]
    if kind in ("mha", "mqa", "gqa"):
        s = {"Wq": (C, H * D), "Wk": (C, G * D), "Wv": (C, G * D)}
    elif kind == "gta":
        s = {"Wq": (C, H * D), "Wkv": (C, G * D), "Wkr": (C, D // 2), "bkr": (D // 2,)}
    else:
        h = H // G
        s = {"Wdq": (C, Q), "bdq": (Q,), "normq": (Q,), "Wuq": (Q, H * (D + R)), "buq": (H * (D + R),),
             "Wdkv": (C, G * L), "bdkv": (G * L,), "normkv": (G, L), "Wkr": (C, R), "bkr": (R,),
             "Wukv": (G, L, h * 2 * D), "bukv": (G, h * 2 * D)}
        if kind == "gla_q":
            s["Wuq"], s["buq"] = (G, Q // G, h * (D + R)), (G, h * (D + R))
    if a["bias"] == "none":
        s = {k: v for k, v in s.items() if not k.startswith("b")}
    return s | {"Wo": (H * D, C)}


def weights(a, seed):
    g = torch.Generator().manual_seed(seed)
    shape = {"embed": (V, C)}
    for i in range(LAYERS):
        p = f"blocks.{i}."
        shape[p + "norm1"] = (C,)
        shape |= {p + "attn." + k: v for k, v in shapes(a).items()}
        shape |= {p + "norm2": (C,), p + "mlp.Wgate": (C, MLP), p + "mlp.Wup": (C, MLP), p + "mlp.Wdown": (MLP, C)}
    shape["norm"] = (C,)
    w = {}
    for name, s in shape.items():
        x = torch.randn(s, generator=g)
        w[name] = (1 + 0.2 * x) if "norm" in name else 0.3 * x
        w[name].requires_grad_()
    return w


# ---- the paper's equations ----------------------------------------------------------------------------------------

def rmsnorm(x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * w


def rope(x, r):
    """Rotates the last r of x [B, T, heads, dim]: dim i pairs with i + r/2."""
    plain, u, v = x[..., : x.shape[-1] - r], x[..., -r: x.shape[-1] - r // 2], x[..., x.shape[-1] - r // 2:]
    angle = torch.arange(T).float()[:, None] * THETA ** (-torch.arange(0, r, 2).float() / r)  # [T, r/2]
    c, s = angle.cos()[None, :, None, :], angle.sin()[None, :, None, :]
    return torch.cat([plain, u * c - v * s, v * c + u * s], -1)


def attend(q, k, v):
    """Causal attention of q [B, T, H, d] over k, v [B, T, G, d]: head h reads group h // (H // G)."""
    rep = H // k.shape[2]
    k, v = k.repeat_interleave(rep, 2), v.repeat_interleave(rep, 2)
    s = torch.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5
    s = s.masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf"))
    return torch.einsum("bhts,bshd->bthd", s.softmax(-1), v).reshape(B, T, -1)


def attention(a, w, p, x):
    kind, G, R, L, Q = a["kind"], groups(a), a["rope_dim"], a["latent_dim"], a["query_latent_dim"]
    W = lambda n: w[p + n]
    bias = lambda n: w.get(p + n, torch.zeros(()))
    if kind in ("mha", "mqa", "gqa"):
        q = rope((x @ W("Wq")).view(B, T, H, D), D)
        k = rope((x @ W("Wk")).view(B, T, G, D), D)
        o = attend(q, k, (x @ W("Wv")).view(B, T, G, D))
    elif kind == "gta":
        R = D // 2
        q = rope((x @ W("Wq")).view(B, T, H, D), R)
        kv = (x @ W("Wkv")).view(B, T, G, D)
        kr = rope((x @ W("Wkr") + bias("bkr")).view(B, T, 1, R), R)
        o = attend(q, torch.cat([kv[..., : D - R], kr.expand(B, T, G, R)], -1), kv)
    else:
        h = H // G
        cq = rmsnorm(x @ W("Wdq") + bias("bdq"), W("normq"))
        if kind == "gla_q":
            q = torch.einsum("btnq,nqo->btno", cq.view(B, T, G, Q // G), W("Wuq")) + bias("buq")
        else:
            q = cq @ W("Wuq") + bias("buq")
        q = rope(q.reshape(B, T, H, D + R), R)
        c = rmsnorm((x @ W("Wdkv") + bias("bdkv")).view(B, T, G, L), W("normkv"))
        kv = (torch.einsum("btnl,nlo->btno", c, W("Wukv")) + bias("bukv")).reshape(B, T, H, 2 * D)
        kr = rope((x @ W("Wkr") + bias("bkr")).view(B, T, 1, R), R)
        o = attend(q, torch.cat([kv[..., :D], kr.expand(B, T, H, R)], -1), kv[..., D:])
    return o @ W("Wo")


def logits_of(a, w, tokens):
    x = w["embed"][tokens]
    for i in range(LAYERS):
        p = f"blocks.{i}."
        x = x + attention(a, w, p + "attn.", rmsnorm(x, w[p + "norm1"]))
        h = rmsnorm(x, w[p + "norm2"])
        x = x + (F.silu(h @ w[p + "mlp.Wgate"]) * (h @ w[p + "mlp.Wup"])) @ w[p + "mlp.Wdown"]
    return rmsnorm(x, w["norm"]) @ w["embed"].T


# ---- Hugging Face's models with the same weights -------------------------------------------------------------------

def llama(a):
    c = transformers.LlamaConfig(
        vocab_size=V, hidden_size=C, intermediate_size=MLP, num_hidden_layers=LAYERS, num_attention_heads=H,
        num_key_value_heads=groups(a), head_dim=D, rms_norm_eps=EPS, tie_word_embeddings=True, attention_bias=False,
        max_position_embeddings=64, attn_implementation="eager", bos_token_id=0, eos_token_id=0)
    m = transformers.LlamaForCausalLM(c)
    names = {"attn.Wq": "self_attn.q_proj", "attn.Wk": "self_attn.k_proj", "attn.Wv": "self_attn.v_proj", "attn.Wo": "self_attn.o_proj"}
    return m, names


def deepseek(a):
    c = transformers.DeepseekV3Config(
        vocab_size=V, hidden_size=C, intermediate_size=MLP, num_hidden_layers=LAYERS, num_attention_heads=H,
        num_key_value_heads=H, q_lora_rank=a["query_latent_dim"], kv_lora_rank=a["latent_dim"], qk_nope_head_dim=D,
        qk_rope_head_dim=a["rope_dim"], v_head_dim=D, first_k_dense_replace=LAYERS, rms_norm_eps=EPS,
        tie_word_embeddings=True, attention_bias=False, max_position_embeddings=64, rope_interleave=True,
        attn_implementation="eager", bos_token_id=0, eos_token_id=0)
    m = transformers.DeepseekV3ForCausalLM(c)
    for layer in m.model.layers:  # these two norms have an epsilon of their own
        layer.self_attn.q_a_layernorm.variance_epsilon = EPS
        layer.self_attn.kv_a_layernorm.variance_epsilon = EPS
    names = {"attn.Wdq": "self_attn.q_a_proj", "attn.normq": "self_attn.q_a_layernorm", "attn.Wuq": "self_attn.q_b_proj",
             "attn.normkv": "self_attn.kv_a_layernorm", "attn.Wukv": "self_attn.kv_b_proj", "attn.Wo": "self_attn.o_proj"}
    return m, names


def to_interleaved(r):
    """DeepSeek pairs neighbours: position in its layout of each of our half-split dims."""
    return torch.tensor(list(range(0, r, 2)) + list(range(1, r, 2)))


def set_linear(module, x):
    module.weight.data = x.detach().reshape(-1, x.shape[-1]).T.contiguous().clone() if x.dim() > 1 else x.detach().clone()


def hugging_face(a, w, tokens, targets):
    """Logits, loss and gradients in our layout, computed by transformers."""
    mla = a["kind"] == "mla"
    m, names = deepseek(a) if mla else llama(a)
    assert m.config.rope_parameters["rope_theta"] == THETA, m.config.rope_parameters
    R = a["rope_dim"]
    m.model.embed_tokens.weight.data = w["embed"].detach().clone()
    m.tie_weights()
    set_linear(m.model.norm, w["norm"])
    common = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm", "mlp.Wgate": "mlp.gate_proj",
              "mlp.Wup": "mlp.up_proj", "mlp.Wdown": "mlp.down_proj"}
    perm = to_interleaved(R) if mla else None
    for i, layer in enumerate(m.model.layers):
        for ours, theirs in (common | names).items():
            x = w[f"blocks.{i}.{ours}"].detach()
            if mla and ours == "attn.Wuq":  # rotate each head's last R columns into DeepSeek's order
                x = x.view(-1, H, D + R).clone()
                y = x.clone()
                y[..., D + perm] = x[..., D:]
                x = y.reshape(x.shape[0], -1)
            if ours == "attn.normkv":
                x = x.reshape(-1)
            set_linear(layer.get_submodule(theirs), x)
        if mla:
            p = f"blocks.{i}.attn."
            kr = w[p + "Wkr"].detach()
            y = kr.clone()
            y[:, perm] = kr
            set_linear(layer.self_attn.kv_a_proj_with_mqa, torch.cat([w[p + "Wdkv"].detach(), y], 1))
    logits = m(input_ids=tokens, use_cache=False).logits.float()
    loss = F.cross_entropy(logits.view(-1, V), targets.view(-1))
    loss.backward()
    grads = {"embed": m.model.embed_tokens.weight.grad, "norm": m.model.norm.weight.grad}
    for i, layer in enumerate(m.model.layers):
        p = f"blocks.{i}."
        for ours, theirs in (common | names).items():
            g = layer.get_submodule(theirs).weight.grad
            g = g.T if g.dim() > 1 else g
            if mla and ours == "attn.Wuq":
                g = g.reshape(-1, H, D + R)
                g = torch.cat([g[..., :D], g[..., D + perm]], -1).reshape(g.shape[0], -1)
            grads[p + ours] = g.reshape(w[p + ours].shape)
        if mla:
            g = layer.self_attn.kv_a_proj_with_mqa.weight.grad.T
            L = a["latent_dim"]
            grads[p + "attn.Wdkv"], grads[p + "attn.Wkr"] = g[:, :L], g[:, L:][:, perm]
    return logits, loss, grads


# ---- the files ----------------------------------------------------------------------------------------------------

def case(name, a, seed, out):
    g = torch.Generator().manual_seed(1000 + seed)
    tokens = torch.randint(V, (B, T), generator=g)
    targets = torch.randint(V, (B, T), generator=g)
    w = weights(a, seed)
    logits = logits_of(a, w, tokens)
    loss = F.cross_entropy(logits.view(-1, V), targets.view(-1))
    loss.backward()
    grads = {k: x.grad for k, x in w.items()}
    source = "plain PyTorch"
    if a["kind"] in ("mha", "mqa", "gqa") or name == "mla-nobias":
        source = "transformers " + transformers.__version__
        plain = {"logits": logits, "loss": loss} | grads
        logits, loss, grads = hugging_face(a, w, tokens, targets)
        for k, x in ({"logits": logits, "loss": loss} | grads).items():
            err = ((x - plain[k]).norm() / plain[k].norm()).item()
            assert err < 2e-5, f"{name}: {k}: the plain formula differs from {source} by {err}"
        assert grads.keys() == w.keys(), grads.keys() ^ w.keys()
    f = {"tokens": tokens.int(), "targets": targets.int(), "logits": logits, "loss": loss.view(1)}
    f |= {"weight." + k: x for k, x in w.items()} | {"grad." + k: x for k, x in grads.items()}
    f = {k: x.detach().contiguous().clone() for k, x in f.items()}
    model = dict(layers=LAYERS, width=C, mlp=MLP, vocab=V, context=T, norm_eps=EPS, tie=True, init_std=0.02)
    path = os.path.join(out, name + ".safetensors")
    save_file(f, path, {"headroom": json.dumps({"model": model, "attention": a}), "source": source, "torch": torch.__version__})
    print(f"{path}: {os.path.getsize(path)} bytes, loss {loss.item():.6f}, from {source}")


if __name__ == "__main__":
    out = sys.argv[1] if len(sys.argv) > 1 else "."
    os.makedirs(out, exist_ok=True)
    failed = False
    for seed, (name, a) in enumerate(CASES.items()):
        try:
            case(name, a, seed + 1, out)
        except Exception as e:  # the other kinds are still worth having
            failed = True
            print(f"{name}: {type(e).__name__}: {e}", file=sys.stderr)
    sys.exit(failed)
