"""Headroom models in PyTorch: a Llama-style decoder with grouped-query, grouped-tied, grouped latent or multi-matrix
factorization attention.

The letters: B batch, T new tokens, S tokens attended to, C width, F MLP width, H query heads, G key/value heads, n latent
heads, D head dim, R its rotary part, L dim of a latent, Q dim of the query latent. Linear layers act as x·W.

A cache holds what one token really leaves behind, in the two tensors of a DynamicCache layer:

    gqa      keys [B, G, S, D] rotated              values [B, G, S, D]
    mfa      keys [B, 1, S, D] rotated              values [B, 1, S, D]
    gta      keys [B, G, S, D] the tied state       values [B, 1, S, R] the rotated rope key, one for all heads
    latent   keys [B, n, S, L] normalised latents   values [B, 1, S, R] the rotated rope key, one for all heads
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .configuration_headroom import HeadroomConfig


def rope(x, positions, R, theta):
    """Rotates the last R columns of each head: column i with column i + R/2. x is [B, heads, T, D], positions [B, T]."""
    plain, x = x[..., : x.shape[-1] - R], x[..., x.shape[-1] - R :]
    frequency = theta ** (-torch.arange(0, R, 2, device=x.device, dtype=torch.float32) / R)  # [R/2]
    angle = positions[:, None, :, None].float() * frequency  # [B, 1, T, R/2]
    cos, sin = angle.cos(), angle.sin()
    a, b = x.float().chunk(2, dim=-1)  # [B, heads, T, R/2] each
    turned = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)
    return torch.cat((plain, turned), dim=-1)


def heads(x, n):
    """[B, T, n·D] -> [B, n, T, D]"""
    return x.unflatten(-1, (n, -1)).transpose(1, 2)


def repeat(x, H):
    """[B, G, S, D] -> [B, H, S, D]: consecutive query heads share."""
    return x.repeat_interleave(H // x.shape[1], dim=1)


def softmax(scores, mask):
    """The weights of scores [B, H, T, S], in float32. A row that may see nothing, which is padding, stays finite."""
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


class GroupedQuery(nn.Module):
    """q = rope(x·Wq), k = rope(x·Wk), v = x·Wv; y = softmax(q·kᵀ/√D)·v · Wo. A cached token is 2·G·D elements."""

    def __init__(self, c, layer):
        super().__init__()
        C, H, G, D = c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim
        self.config, self.layer = c, layer
        self.Wq = nn.Linear(C, H * D, bias=False)
        self.Wk = nn.Linear(C, G * D, bias=False)
        self.Wv = nn.Linear(C, G * D, bias=False)
        self.Wo = nn.Linear(H * D, C, bias=False)

    def forward(self, x, positions, mask, cache):
        c, H, G = self.config, self.config.num_attention_heads, self.config.num_key_value_heads
        q = rope(heads(self.Wq(x), H), positions, c.rope_dim, c.rope_theta)  # [B, H, T, D]
        k = rope(heads(self.Wk(x), G), positions, c.rope_dim, c.rope_theta)  # [B, G, T, D]
        v = heads(self.Wv(x), G)  # [B, G, T, D]
        if cache is not None:
            k, v = cache.update(k, v, self.layer)  # [B, G, S, D]
        p = softmax(q @ repeat(k, H).mT * c.head_dim**-0.5, mask).to(v.dtype)  # [B, H, T, S]
        o = p @ repeat(v, H)  # [B, H, T, D]
        return self.Wo(o.transpose(1, 2).flatten(2))  # [B, T, C]


class MultiMatrix(nn.Module):
    """One key and one value head, and queries from a latent of Q that all heads share: q = rope(rmsnorm(x·Wdq)·Wuq),
    k = rope(x·Wk), v = x·Wv; y = softmax(q·kᵀ/√D)·v · Wo. A cached token is 2·D elements.
    """

    def __init__(self, c, layer):
        super().__init__()
        C, H, D, Q = c.hidden_size, c.num_attention_heads, c.head_dim, c.query_latent_dim
        self.config, self.layer = c, layer
        self.Wdq = nn.Linear(C, Q, bias=False)
        self.normq = RMSNorm(Q, eps=c.rms_norm_eps)
        self.Wuq = nn.Linear(Q, H * D, bias=False)
        self.Wk = nn.Linear(C, D, bias=False)
        self.Wv = nn.Linear(C, D, bias=False)
        self.Wo = nn.Linear(H * D, C, bias=False)

    def forward(self, x, positions, mask, cache):
        c, H = self.config, self.config.num_attention_heads
        q = rope(heads(self.Wuq(self.normq(self.Wdq(x))), H), positions, c.rope_dim, c.rope_theta)  # [B, H, T, D]
        k = rope(heads(self.Wk(x), 1), positions, c.rope_dim, c.rope_theta)  # [B, 1, T, D]
        v = heads(self.Wv(x), 1)  # [B, 1, T, D]
        if cache is not None:
            k, v = cache.update(k, v, self.layer)  # [B, 1, S, D]
        p = softmax(q @ k.mT * c.head_dim**-0.5, mask).to(v.dtype)  # [B, H, T, S]
        o = p @ v  # [B, H, T, D]
        return self.Wo(o.transpose(1, 2).flatten(2))  # [B, T, C]


class GroupedTied(nn.Module):
    """kv = x·Wkv is the value, and its first D-R columns are the key's; the key's last R are rope(x·Wkr + bkr), one for all
    heads. The last R columns of each query are rotated. A cached token is G·D + R elements.
    """

    def __init__(self, c, layer):
        super().__init__()
        C, H, G, D, R = c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim, c.rope_dim
        self.config, self.layer = c, layer
        self.Wq = nn.Linear(C, H * D, bias=False)
        self.Wkv = nn.Linear(C, G * D, bias=False)
        self.Wkr = nn.Linear(C, R, bias=c.low_rank_bias)
        self.Wo = nn.Linear(H * D, C, bias=False)

    def forward(self, x, positions, mask, cache):
        c, H, P = self.config, self.config.num_attention_heads, self.config.head_dim - self.config.rope_dim
        q = rope(heads(self.Wq(x), H), positions, c.rope_dim, c.rope_theta)  # [B, H, T, D]
        kv = heads(self.Wkv(x), c.num_key_value_heads)  # [B, G, T, D]
        kr = rope(heads(self.Wkr(x), 1), positions, c.rope_dim, c.rope_theta)  # [B, 1, T, R]
        if cache is not None:
            kv, kr = cache.update(kv, kr, self.layer)  # [B, G, S, D], [B, 1, S, R]
        kv = repeat(kv, H)  # [B, H, S, D]
        scores = q[..., :P] @ kv[..., :P].mT + q[..., P:] @ kr.mT  # [B, H, T, S]
        o = softmax(scores * c.head_dim**-0.5, mask).to(kv.dtype) @ kv  # [B, H, T, D]
        return self.Wo(o.transpose(1, 2).flatten(2))  # [B, T, C]


class Latent(nn.Module):
    """n latent heads c stand for keys and values of H/n query heads each: [ k | v ] of a head is c·Wukv + bukv, and
    rope(x·Wkr + bkr) is the rotary part of all keys. MLA is n = 1. A cached token is n·L + R elements.

    Attention runs absorbed: Wuk goes into the query and Wuv comes after the sum, so that the cached latents are key and
    value as they stand. A key's bias adds the same to all scores of a query, which softmax does not see; a value's is
    added once, since the weights sum to 1.
    """

    def __init__(self, c, layer):
        super().__init__()
        C, H, n, D = c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim
        R, L, Q, bias = c.rope_dim, c.latent_dim, c.query_latent_dim, c.low_rank_bias
        parts = n if c.split_query else 1
        normed = (parts, Q // parts) if c.query_norm == "parts" else (Q,)
        self.config, self.layer = c, layer
        self.Wdq = nn.Linear(C, Q, bias=bias)
        self.normq = RMSNorm(*normed, eps=c.rms_norm_eps)
        self.Wuq = nn.Parameter(torch.empty(parts, Q // parts, H // parts * (D + R)))
        self.buq = nn.Parameter(torch.zeros(H * (D + R))) if bias else None
        self.Wdkv = nn.Linear(C, n * L, bias=bias)
        self.normkv = RMSNorm(n, L, eps=c.rms_norm_eps)
        self.Wkr = nn.Linear(C, R, bias=bias)
        self.Wukv = nn.Parameter(torch.empty(n, L, H // n * 2 * D))
        self.bukv = nn.Parameter(torch.zeros(H * 2 * D)) if bias else None
        self.Wo = nn.Linear(H * D, C, bias=False)

    def query(self, x):
        """[B, T, C] -> [B, T, H·(D+R)]"""
        cq = self.normq(self.Wdq(x).unflatten(-1, self.normq.weight.shape))  # [B, T, Q] or [B, T, parts, Q/parts]
        cq = cq.flatten(2).unflatten(-1, (self.Wuq.shape[0], -1))  # [B, T, parts, Q/parts]
        q = torch.einsum("btpq,pqo->btpo", cq, self.Wuq).flatten(2)
        return q if self.buq is None else q + self.buq

    def forward(self, x, positions, mask, cache):
        c, H, n, D = self.config, self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim
        q = rope(heads(self.query(x), H), positions, c.rope_dim, c.rope_theta)  # [B, H, T, D+R]
        latents = self.normkv(self.Wdkv(x).unflatten(-1, (n, -1))).transpose(1, 2)  # [B, n, T, L]
        kr = rope(heads(self.Wkr(x), 1), positions, c.rope_dim, c.rope_theta)  # [B, 1, T, R]
        if cache is not None:
            latents, kr = cache.update(latents, kr, self.layer)  # [B, n, S, L], [B, 1, S, R]
        Wuk, Wuv = self.Wukv.unflatten(-1, (H // n, 2 * D)).split(D, dim=-1)  # [n, L, H/n, D]
        absorbed = torch.einsum("bnhtd,nlhd->bnhtl", q[..., :D].unflatten(1, (n, -1)), Wuk)
        scores = (absorbed @ latents[:, :, None].mT).flatten(1, 2) + q[..., D:] @ kr.mT  # [B, H, T, S]
        p = softmax(scores * (D + c.rope_dim) ** -0.5, mask).to(latents.dtype)
        o = p.unflatten(1, (n, -1)) @ latents[:, :, None]  # [B, n, H/n, T, L]
        o = torch.einsum("bnhtl,nlhd->btnhd", o, Wuv).flatten(2, 3)  # [B, T, H, D]
        if self.bukv is not None:
            o = o + self.bukv.unflatten(0, (H, 2 * D))[:, D:]
        return self.Wo(o.flatten(2))  # [B, T, C]


KINDS = {"gqa": GroupedQuery, "mfa": MultiMatrix, "gta": GroupedTied, "latent": Latent}


class MLP(nn.Module):
    """SwiGLU: (silu(x·Wgate) ⊙ x·Wup)·Wdown."""

    def __init__(self, c):
        super().__init__()
        self.Wgate = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.Wup = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.Wdown = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x):
        return self.Wdown(F.silu(self.Wgate(x)) * self.Wup(x))


class Block(nn.Module):
    def __init__(self, c, layer):
        super().__init__()
        self.norm1 = RMSNorm(c.hidden_size, eps=c.rms_norm_eps)
        self.attn = KINDS[c.kind](c, layer)
        self.norm2 = RMSNorm(c.hidden_size, eps=c.rms_norm_eps)
        self.mlp = MLP(c)

    def forward(self, x, positions, mask, cache):
        x = x + self.attn(self.norm1(x), positions, mask, cache)
        return x + self.mlp(self.norm2(x))


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
        x = self.embed(input_ids) if inputs_embeds is None else inputs_embeds  # [B, T, C]
        B, T = x.shape[:2]
        if past_key_values is None and (self.config.use_cache if use_cache is None else use_cache):
            past_key_values = DynamicCache()
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        S = past + T
        if attention_mask is None:
            attention_mask = torch.ones(B, S, device=x.device, dtype=torch.long)
        if attention_mask.dim() != 2 or attention_mask.shape[1] != S:
            raise ValueError(f"the attention mask must be [B, S] = [{B}, {S}], it is {list(attention_mask.shape)}")
        if position_ids is None:
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, past:]  # [B, T]
        place = torch.arange(S, device=x.device)
        mask = place <= place[past:, None]  # [T, S]
        mask = mask[None, None] & attention_mask[:, None, None, :].bool()  # [B, 1, T, S]
        for block in self.blocks:
            x = block(x, position_ids, mask, past_key_values)
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
