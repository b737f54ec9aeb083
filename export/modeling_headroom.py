"""Headroom models in PyTorch: a Llama-style decoder whose attention is one of several kinds.

The letters: B batch, T new tokens, S tokens attended to, C width, F MLP width, H query heads, G key/value heads, n latent
heads, D head dim, R its rotary part, L dim of a latent, Q dim of the query latent. Linear layers act as x·W.

A cache holds what one token really leaves behind, in the two tensors of a DynamicCache layer; where one state is both key and
value, the second has no columns. Layers with a window keep the last tokens alone.

    gqa     keys [B, G, S, D] rotated               values [B, G, S, D]
    mfa     keys [B, 1, S, D] rotated               values [B, 1, S, D]
    mfa_kr  keys [B, 1, S, D] before they rotate    values [B, 1, S, 0]; gqa with tie_kv so too, of G heads
    tpa     keys [B, 1, S, Rk·(H+D)] factors of keys, those over columns rotated    values [B, 1, S, Rk·(H+D)] of values
    gta     keys [B, G, S, D] the tied state        values [B, 1, S, R] the rotated rope key, one for all heads
    latent, gqla, mlra
            keys [B, n, S, L] normalised latents    values [B, 1, S, R] the rotated rope key, one for all heads
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .configuration_headroom import HeadroomConfig


def frequencies(c, layer, device):
    """The angles of a layer's R/2 rotary pairs from one token to the next. Where scaled_rope says so, slow pairs are slower
    still, as in Llama 3.1: those that turn less than low_freq_factor times in the original context by the whole factor, and
    those that turn more than high_freq_factor times by nothing.
    """
    theta, scaled = c.rope_theta, c.scaled_rope
    if c.window_rope_theta is not None and c.windowed(layer):
        theta, scaled = c.window_rope_theta, None
    frequency = theta ** (-torch.arange(0, c.rope_dim, 2, device=device, dtype=torch.float32) / c.rope_dim)  # [R/2]
    if scaled is None:
        return frequency
    low, high = scaled["low_freq_factor"], scaled["high_freq_factor"]
    turns = scaled["original_context"] * frequency / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return frequency * (kept + (1 - kept) / scaled["factor"])


def heads(x, n):
    """[B, T, n·D] -> [B, n, T, D]"""
    return x.unflatten(-1, (n, -1)).transpose(1, 2)


def repeat(x, H):
    """[B, G, S, D] -> [B, H, S, D]: consecutive query heads share."""
    return x.repeat_interleave(H // x.shape[1], dim=1)


def softmax(scores, mask):
    """The weights of scores [..., T, S], in float32, of which a mask [B, 1, T, all tokens] says what they may see. A row that
    may see nothing, which is padding, stays finite.
    """
    mask = mask[..., -scores.shape[-1] :].reshape(mask.shape[0], *[1] * (scores.dim() - 3), scores.shape[-2], -1)
    return scores.float().masked_fill(~mask, torch.finfo(torch.float32).min).softmax(-1)


class RMSNorm(nn.Module):
    def __init__(self, *shape, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return y.to(x.dtype) * self.weight


class HeadNorm(RMSNorm):
    """Norms as many columns of x [B, T, n·D] at a time as it has weights: each head apart, or all as one vector."""

    def forward(self, x):
        return super().forward(x.unflatten(-1, (-1, *self.weight.shape))).flatten(2)


class Attention(nn.Module):
    """What the kinds share: the rotation, the cache, and the way out, y = (o ⊙ sigmoid(x·Wg))·Wo, where a gate has a number for
    each head or for each of its columns, and may read the first columns of x alone. places [B, all tokens] are the positions of
    the tokens so far, the new ones last.
    """

    def __init__(self, c, layer):
        super().__init__()
        C, H, D = c.hidden_size, c.num_attention_heads, c.head_dim
        self.config, self.layer = c, layer
        self.Wo = nn.Linear(H * D, C, bias=False)
        if c.gate != "none":
            self.Wg = nn.Linear(c.gate_width or C, H * D if c.gate == "element" else H, bias=False)

    def norm(self, n):
        """The norm of n heads of queries or keys, by qk_norm."""
        c = self.config
        if c.qk_norm == "none":
            return nn.Identity()
        return HeadNorm(c.head_dim * (n if c.qk_norm == "all" else 1), eps=c.rms_norm_eps)

    def rope(self, x, places):
        """Rotates the last R columns of each head: column i with column i + R/2. x is [B, heads, T, D]; its tokens are the
        last ones.
        """
        R = self.config.rope_dim
        plain, x = x[..., : x.shape[-1] - R], x[..., x.shape[-1] - R :]
        places = places[:, places.shape[1] - x.shape[2] :]
        angle = places[:, None, :, None].float() * frequencies(self.config, self.layer, x.device)  # [B, 1, T, R/2]
        cos, sin = angle.cos(), angle.sin()
        a, b = x.float().chunk(2, dim=-1)  # [B, heads, T, R/2] each
        turned = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)
        return torch.cat((plain, turned), dim=-1)

    def cached(self, cache, keys, values):
        """What there is of keys and values [B, heads, S, ...] with the new ones."""
        return (keys, values) if cache is None else cache.update(keys, values, self.layer)

    def out(self, o, x):
        """[B, H, T, D] -> [B, T, C]"""
        o = o.transpose(1, 2)  # [B, T, H, D]
        if self.config.gate != "none":
            gate = self.Wg(x[..., : self.Wg.in_features]).sigmoid()  # [B, T, H·D] or [B, T, H]
            o = o * gate.unflatten(-1, (o.shape[2], -1))
        return self.Wo(o.flatten(2))


class GroupedQuery(Attention):
    """q = rope(x·Wq), k = rope(x·Wk), v = x·Wv; y = softmax(q·kᵀ/√D)·v · Wo. A cached token is 2·G·D elements. With qk_norm,
    q and k are normed before they rotate. With tie_kv, v is k before it rotates, which alone is cached.
    """

    def __init__(self, c, layer):
        super().__init__(c, layer)
        C, H, G, D = c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim
        self.Wq = nn.Linear(C, H * D, bias=False)
        self.Wk = nn.Linear(C, G * D, bias=False)
        if not c.tie_kv:
            self.Wv = nn.Linear(C, G * D, bias=False)
        self.normQueries, self.normKeys = self.norm(H), self.norm(G)

    def forward(self, x, places, mask, cache):
        c, H, G = self.config, self.config.num_attention_heads, self.config.num_key_value_heads
        q = self.rope(heads(self.normQueries(self.Wq(x)), H), places)  # [B, H, T, D]
        k = heads(self.normKeys(self.Wk(x)), G)  # [B, G, T, D]
        if c.tie_kv:
            v, _ = self.cached(cache, k, k[..., :0])  # [B, G, S, D]
            k = self.rope(v, places)
        else:
            k, v = self.cached(cache, self.rope(k, places), heads(self.Wv(x), G))  # [B, G, S, D]
        p = softmax(q @ repeat(k, H).mT * (c.scale_dim or c.head_dim) ** -0.5, mask).to(v.dtype)  # [B, H, T, S]
        return self.out(p @ repeat(v, H), x)


class MultiMatrix(Attention):
    """One key and one value head, and queries from a latent of Q that all heads share: q = rope(rmsnorm(x·Wdq)·Wuq),
    k = rope(x·Wk), v = x·Wv; y = softmax(q·kᵀ/√D)·v · Wo. A cached token is 2·D elements.
    """

    def __init__(self, c, layer):
        super().__init__(c, layer)
        C, H, D, Q = c.hidden_size, c.num_attention_heads, c.head_dim, c.query_latent_dim
        self.Wdq = nn.Linear(C, Q, bias=False)
        self.normq = RMSNorm(Q, eps=c.rms_norm_eps)
        self.Wuq = nn.Linear(Q, H * D, bias=False)
        self.Wk = nn.Linear(C, D, bias=False)
        self.values(C, D)
        self.normQueries, self.normKeys = self.norm(H), self.norm(1)

    def values(self, C, D):
        self.Wv = nn.Linear(C, D, bias=False)

    def query(self, x, places):
        """[B, T, C] -> [B, H, T, D]"""
        q = self.normQueries(self.Wuq(self.normq(self.Wdq(x))))  # [B, T, H·D]
        return self.rope(heads(q, self.config.num_attention_heads), places)

    def forward(self, x, places, mask, cache):
        k = self.rope(heads(self.normKeys(self.Wk(x)), 1), places)  # [B, 1, T, D]
        k, v = self.cached(cache, k, heads(self.Wv(x), 1))  # [B, 1, S, D]
        p = softmax(self.query(x, places) @ k.mT * self.config.head_dim**-0.5, mask).to(v.dtype)  # [B, H, T, S]
        return self.out(p @ v, x)


class KeyReuse(MultiMatrix):
    """MultiMatrix whose values are made of its keys: u = x·Wk, k = rope(u), v = u + α ⊙ (u·Wn), α being gainv. A cached token is
    u, D elements: what is read is rotated, and the value is made of the sum of u.
    """

    def values(self, C, D):
        self.Wn = nn.Linear(D, D, bias=False)
        self.gainv = nn.Parameter(torch.zeros(D))

    def forward(self, x, places, mask, cache):
        u = heads(self.Wk(x), 1)  # [B, 1, T, D]
        u, _ = self.cached(cache, u, u[..., :0])  # [B, 1, S, D]
        scores = self.query(x, places) @ self.rope(u, places).mT  # [B, H, T, S]
        o = softmax(scores * self.config.head_dim**-0.5, mask).to(u.dtype) @ u  # [B, H, T, D]
        return self.out(o + self.gainv * self.Wn(o), x)


class TensorProduct(Attention):
    """Queries, keys and values of all heads are products of factors: q = 1/Rq·A·B with A = x·Waq [H, Rq] and B = rope(x·Wbq)
    [Rq, D]; k so by Wak and Wbk, of Rk; v by Wav and Wbv, not rotated. y = softmax(q·kᵀ/√D)·v · Wo. A cached token is the factors
    of its key and its value, 2·Rk·(H+D) elements.
    """

    def __init__(self, c, layer):
        super().__init__(c, layer)
        C, H, D, Rq, Rk = c.hidden_size, c.num_attention_heads, c.head_dim, c.query_rank, c.kv_rank
        self.Waq = nn.Linear(C, H * Rq, bias=False)
        self.Wbq = nn.Linear(C, Rq * D, bias=False)
        self.Wak = nn.Linear(C, H * Rk, bias=False)
        self.Wbk = nn.Linear(C, Rk * D, bias=False)
        self.Wav = nn.Linear(C, H * Rk, bias=False)
        self.Wbv = nn.Linear(C, Rk * D, bias=False)

    def rotated(self, b, places):
        """[B, T, rank·D] -> the same, each row of D rotated"""
        return self.rope(heads(b, b.shape[-1] // self.config.head_dim), places).transpose(1, 2).flatten(2)

    def product(self, factors, rank):
        """[B, S, rank·(H+D)] -> [B, H, S, D]"""
        H, D = self.config.num_attention_heads, self.config.head_dim
        a, b = factors.split((H * rank, rank * D), dim=-1)
        return (a.unflatten(-1, (H, rank)) @ b.unflatten(-1, (rank, D)) / rank).transpose(1, 2)

    def forward(self, x, places, mask, cache):
        c = self.config
        q = self.product(torch.cat((self.Waq(x), self.rotated(self.Wbq(x), places)), -1), c.query_rank)  # [B, H, T, D]
        k = torch.cat((self.Wak(x), self.rotated(self.Wbk(x), places)), -1)  # [B, T, Rk·(H+D)]
        v = torch.cat((self.Wav(x), self.Wbv(x)), -1)  # [B, T, Rk·(H+D)]
        k, v = self.cached(cache, k[:, None], v[:, None])  # [B, 1, S, Rk·(H+D)]
        k, v = self.product(k[:, 0], c.kv_rank), self.product(v[:, 0], c.kv_rank)  # [B, H, S, D]
        p = softmax(q @ k.mT * c.head_dim**-0.5, mask).to(v.dtype)  # [B, H, T, S]
        return self.out(p @ v, x)


class GroupedTied(Attention):
    """kv = x·Wkv is the value, and its first D-R columns are the key's; the key's last R are rope(x·Wkr + bkr), one for all
    heads. The last R columns of each query are rotated. A cached token is G·D + R elements.
    """

    def __init__(self, c, layer):
        super().__init__(c, layer)
        C, H, G, D, R = c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim, c.rope_dim
        self.Wq = nn.Linear(C, H * D, bias=False)
        self.Wkv = nn.Linear(C, G * D, bias=False)
        self.Wkr = nn.Linear(C, R, bias=c.low_rank_bias)

    def forward(self, x, places, mask, cache):
        c, H, P = self.config, self.config.num_attention_heads, self.config.head_dim - self.config.rope_dim
        q = self.rope(heads(self.Wq(x), H), places)  # [B, H, T, D]
        kv = heads(self.Wkv(x), c.num_key_value_heads)  # [B, G, T, D]
        kr = self.rope(heads(self.Wkr(x), 1), places)  # [B, 1, T, R]
        kv, kr = self.cached(cache, kv, kr)  # [B, G, S, D], [B, 1, S, R]
        kv = repeat(kv, H)  # [B, H, S, D]
        scores = q[..., :P] @ kv[..., :P].mT + q[..., P:] @ kr.mT  # [B, H, T, S]
        o = softmax(scores * c.head_dim**-0.5, mask).to(kv.dtype) @ kv  # [B, H, T, D]
        return self.out(o, x)


class Latent(Attention):
    """n latent heads c stand for keys and values of H/n query heads each: [ k | v ] of a head is c·Wukv + bukv, and
    rope(x·Wkr + bkr) is the rotary part of all keys. MLA is n = 1. A cached token is n·L + R elements.

    Attention runs absorbed: Wuk goes into the query and Wuv comes after the sum, so that the cached latents are key and
    value as they stand. A key's bias adds the same to all scores of a query, which softmax does not see; a value's is
    added once, since the weights sum to 1.
    """

    def __init__(self, c, layer):
        super().__init__(c, layer)
        C, H, D, R, L, Q = c.hidden_size, c.num_attention_heads, c.head_dim, c.rope_dim, c.latent_dim, c.query_latent_dim
        bias, (n, made) = c.low_rank_bias, self.counts(c)
        parts = n if c.split_query else 1
        normed = (parts, Q // parts) if c.query_norm == "parts" else (Q,)
        self.Wdq = nn.Linear(C, Q, bias=bias)
        self.normq = RMSNorm(*normed, eps=c.rms_norm_eps)
        self.Wuq = nn.Parameter(torch.empty(parts, Q // parts, H // parts * (D + R)))
        self.buq = nn.Parameter(torch.zeros(H * (D + R))) if bias else None
        self.Wdkv = nn.Linear(C, n * L, bias=bias)
        self.normkv = RMSNorm(n, L, eps=c.rms_norm_eps)
        self.Wkr = nn.Linear(C, R, bias=bias)
        self.Wukv = nn.Parameter(torch.empty(n, L, made // n * 2 * D))
        self.bukv = nn.Parameter(torch.zeros(made * 2 * D)) if bias else None

    def counts(self, c):
        """How many latents there are, and heads of keys and values made of them."""
        return c.num_key_value_heads, c.num_attention_heads

    def query(self, x, places):
        """[B, T, C] -> [B, H, T, D+R]"""
        cq = self.normq(self.Wdq(x).unflatten(-1, self.normq.weight.shape))  # [B, T, Q] or [B, T, parts, Q/parts]
        cq = cq.flatten(2).unflatten(-1, (self.Wuq.shape[0], -1))  # [B, T, parts, Q/parts]
        q = torch.einsum("btpq,pqo->btpo", cq, self.Wuq).flatten(2)
        q = q if self.buq is None else q + self.buq
        return self.rope(heads(q, self.config.num_attention_heads), places)

    def latents(self, x, places, cache):
        """Normalised latents [B, n, S, L], and rope keys [B, 1, S, R]."""
        n, _ = self.counts(self.config)
        latents = self.normkv(self.Wdkv(x).unflatten(-1, (n, -1))).transpose(1, 2)  # [B, n, T, L]
        return self.cached(cache, latents, self.rope(heads(self.Wkr(x), 1), places))

    def forward(self, x, places, mask, cache):
        H, D, R = self.config.num_attention_heads, self.config.head_dim, self.config.rope_dim
        q = self.query(x, places)  # [B, H, T, D+R]
        latents, kr = self.latents(x, places, cache)  # [B, n, S, L], [B, 1, S, R]
        n, made = self.counts(self.config)
        share = H // made  # query heads to a head of keys and values
        Wuk, Wuv = (
            w.repeat_interleave(share, dim=2) for w in self.Wukv.unflatten(-1, (made // n, 2 * D)).split(D, dim=-1)
        )  # [n, L, H/n, D]
        absorbed = torch.einsum("bnhtd,nlhd->bnhtl", q[..., :D].unflatten(1, (n, -1)), Wuk)
        scores = (absorbed @ latents[:, :, None].mT).flatten(1, 2) + q[..., D:] @ kr.mT  # [B, H, T, S]
        p = softmax(scores * (D + R) ** -0.5, mask).to(latents.dtype)
        o = p.unflatten(1, (n, -1)) @ latents[:, :, None]  # [B, n, H/n, T, L]
        o = torch.einsum("bnhtl,nlhd->bnhtd", o, Wuv).flatten(1, 2)  # [B, H, T, D]
        if self.bukv is not None:
            o = o + self.bukv.unflatten(0, (made, 2 * D))[:, None, D:].repeat_interleave(share, dim=0)
        return self.out(o, x)


class GroupedQueryLatent(Latent):
    """Latent of one latent, of which G heads of keys and values are made, each for H/G query heads. A cached token is L + R
    elements, since it runs absorbed; the G heads, which its paper caches on cards with little arithmetic, are not cached here.
    """

    def __init__(self, c, layer):
        super().__init__(c, layer)
        self.normkv = RMSNorm(c.latent_dim, eps=c.rms_norm_eps)

    def counts(self, c):
        return 1, c.num_key_value_heads


class MultiHeadLowRank(Latent):
    """Latent whose heads read b latents of n each, apart: with cq = √(C/Q)·rmsnorm(x·Wdq), c = √(C/L)·rmsnorm of each latent and
    [ k | v ] = c·Wukv of a head and a latent, y = 1/√b·Σ softmax(q·[ k | kr ]ᵀ/√(D+R))·v over its latents. Head h of H reads the
    latents from ⌊h·g/H⌋·b on, where g = n/b. A cached token is n·L + R elements. It runs absorbed.
    """

    def counts(self, c):
        return c.latents, c.num_attention_heads * c.num_key_value_heads

    def forward(self, x, places, mask, cache):
        c, b, D, R = self.config, self.config.num_key_value_heads, self.config.head_dim, self.config.rope_dim
        g = c.latents // b
        q = self.query(x, places) * (c.hidden_size / c.query_latent_dim) ** 0.5  # [B, H, T, D+R]
        q = q.unflatten(1, (g, 1, -1)).expand(-1, -1, b, -1, -1, -1).flatten(1, 2)  # [B, n, H/g, T, D+R]
        latents, kr = self.latents(x, places, cache)  # [B, n, S, L], [B, 1, S, R]
        latents = (latents * (c.hidden_size / c.latent_dim) ** 0.5)[:, :, None]  # [B, n, 1, S, L]
        Wuk, Wuv = self.Wukv.unflatten(-1, (-1, 2 * D)).split(D, dim=-1)  # [n, L, H/g, D]
        absorbed = torch.einsum("bnhtd,nlhd->bnhtl", q[..., :D], Wuk)
        scores = absorbed @ latents.mT + q[..., D:] @ kr[:, :, None].mT  # [B, n, H/g, T, S]
        o = softmax(scores * (D + R) ** -0.5, mask).to(latents.dtype) @ latents  # [B, n, H/g, T, L]
        o = torch.einsum("bnhtl,nlhd->bnhtd", o, Wuv).unflatten(1, (g, b)).sum(2) * b**-0.5  # [B, g, H/g, T, D]
        return self.out(o.flatten(1, 2), x)


KINDS = {
    "gqa": GroupedQuery,
    "mfa": MultiMatrix,
    "mfa_kr": KeyReuse,
    "tpa": TensorProduct,
    "gta": GroupedTied,
    "latent": Latent,
    "gqla": GroupedQueryLatent,
    "mlra": MultiHeadLowRank,
}


class MLP(nn.Module):
    """SwiGLU: (silu(x·Wgate) ⊙ x·Wup)·Wdown, or with the tanh form of GELU in the place of silu."""

    def __init__(self, c):
        super().__init__()
        self.gelu = c.activation == "gelu_tanh"
        self.Wgate = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.Wup = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.Wdown = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x):
        gate = self.Wgate(x)
        gate = F.gelu(gate, approximate="tanh") if self.gelu else F.silu(gate)
        return self.Wdown(gate * self.Wup(x))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); norms may stand behind attention and MLP, or before and behind."""

    def __init__(self, c, layer):
        super().__init__()
        before, behind = c.norm != "post", c.norm != "pre"
        for name, there in (("norm1", before), ("norm1post", behind), ("norm2", before), ("norm2post", behind)):
            self.add_module(name, RMSNorm(c.hidden_size, eps=c.rms_norm_eps) if there else nn.Identity())
        self.attn = KINDS[c.kind](c, layer)
        self.mlp = MLP(c)

    def forward(self, x, places, mask, cache):
        x = x + self.norm1post(self.attn(self.norm1(x), places, mask, cache))
        return x + self.norm2post(self.mlp(self.norm2(x)))


class HeadroomPreTrainedModel(PreTrainedModel):
    config_class = HeadroomConfig
    base_model_prefix = "model"
    _no_split_modules = ["Block"]


class HeadroomModel(HeadroomPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed

    def set_input_embeddings(self, embed):
        self.embed = embed

    def forward(
        self,
        input_ids=None,
        attention_mask=None,  # [B, S], 0 where there is padding
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        use_cache=None,
        **kwargs,
    ):
        c = self.config
        x = self.embed(input_ids) if inputs_embeds is None else inputs_embeds  # [B, T, C]
        if c.embed_scale:
            x = x * c.hidden_size**0.5
        B, T = x.shape[:2]
        if past_key_values is None and (c.use_cache if use_cache is None else use_cache):
            past_key_values = DynamicCache(config=c)
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        S = past + T
        if attention_mask is None:
            attention_mask = torch.ones(B, S, device=x.device, dtype=torch.long)
        if attention_mask.dim() != 2 or attention_mask.shape[1] != S:
            raise ValueError(f"the attention mask must be [B, S] = [{B}, {S}], it is {list(attention_mask.shape)}")
        places = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)  # [B, S]
        if position_ids is not None:
            position_ids = position_ids.expand(B, T)
            if c.rotates_when_read and ((position_ids != places[:, past:]) & attention_mask[:, past:].bool()).any():
                raise ValueError("keys are cached before they rotate: positions must be those that the attention mask counts")
            places = torch.cat((places[:, :past], position_ids), 1)
        token = torch.arange(S, device=x.device)
        distance = token[past:, None] - token  # [T, S]
        seen = attention_mask[:, None, None, :].bool()  # [B, 1, 1, S]
        full = (distance >= 0) & seen  # [B, 1, T, S]
        windowed = full if c.sliding_window is None else full & (distance < c.sliding_window)
        for i, block in enumerate(self.blocks):
            x = block(x, places, windowed if c.windowed(i) else full, past_key_values)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(x), past_key_values=past_key_values)


class HeadroomForCausalLM(HeadroomPreTrainedModel, GenerationMixin):
    _tied_weights_keys = {"lm_head.weight": "model.embed.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = HeadroomModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed

    def set_input_embeddings(self, embed):
        self.model.embed = embed

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, head):
        self.lm_head = head

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        labels=None,
        use_cache=None,
        logits_to_keep=0,  # so many of the last tokens are scored; 0 is all
        **kwargs,
    ):
        out = self.model(input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache)
        x = out.last_hidden_state
        logits = self.lm_head(x[:, -logits_to_keep:] if logits_to_keep else x)  # [B, T, V]
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=out.past_key_values)
