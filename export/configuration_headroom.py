"""The configuration of a headroom model: a Llama-style decoder whose attention is one of several kinds.

GTA is grouped-TIED attention and GLA grouped LATENT attention, both of "Hardware-Efficient Attention for Fast Decoding"
(arXiv 2505.21487); neither is gated linear attention. MFA is multi-matrix factorization attention (arXiv 2412.19255), and
MFA-KR its form with key reuse; TPA is tensor product attention (arXiv 2501.06425), MLRA multi-head low-rank attention (arXiv
2603.02188), GQLA group-query latent attention (arXiv 2605.15250).
"""

from transformers import PretrainedConfig


class HeadroomConfig(PretrainedConfig):
    model_type = "headroom"

    def __init__(
        self,
        kind="gqa",  # gqa, mfa, mfa_kr, tpa, gta, gqla, mlra, or latent: MLA, GLA and GLA_q
        vocab_size=257,
        hidden_size=128,  # C
        intermediate_size=384,  # F
        num_hidden_layers=4,
        num_attention_heads=4,  # H
        num_key_value_heads=4,  # G: key/value heads, or latent heads; of MLRA the latents that a head reads
        head_dim=32,  # D
        rope_dim=32,  # R
        latents=0,  # n, of MLRA
        latent_dim=0,  # L, of latent kinds
        query_latent_dim=0,  # Q, of latent kinds and of MFA
        query_rank=0,  # Rq, of TPA
        kv_rank=0,  # Rk, of TPA
        split_query=False,  # GLA_q: the query latent has a part for each latent head
        query_norm="whole",  # of GLA_q's query latent: whole, or its parts each apart
        low_rank_bias=True,  # on the projections of latent kinds, and on GTA's rope key
        qk_norm="none",  # of queries and keys before they rotate: none, of each head apart, or of all as one vector
        tie_kv=False,  # values are the keys before they rotate
        scale_dim=None,  # scores are divided by its root instead of that of head_dim
        gate="none",  # of what was attended: none, one number a head, or one an element
        gate_width=0,  # it is made of so many of the first columns; 0 is all
        norm="pre",  # where the norms of a block stand: pre, post or both
        activation="silu",  # of the MLP: silu or gelu_tanh
        embed_scale=False,  # embeddings are multiplied by √C
        rope_theta=10000.0,
        scaled_rope=None,  # factor, low_freq_factor, high_freq_factor and original_context of Llama 3.1's scaling
        sliding_window=None,  # keys that a query of a window layer reads, its own with them
        layer_types=None,  # full_attention or sliding_attention of each layer
        window_rope_theta=None,  # of window layers, which have no scaling then
        rms_norm_eps=1e-5,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        use_cache=True,
        **kwargs,
    ):
        self.kind = kind
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = head_dim
        self.rope_dim = rope_dim
        self.latents = latents
        self.latent_dim = latent_dim
        self.query_latent_dim = query_latent_dim
        self.query_rank = query_rank
        self.kv_rank = kv_rank
        self.split_query = split_query
        self.query_norm = query_norm
        self.low_rank_bias = low_rank_bias
        self.qk_norm = qk_norm
        self.tie_kv = tie_kv
        self.scale_dim = scale_dim
        self.gate = gate
        self.gate_width = gate_width
        self.norm = norm
        self.activation = activation
        self.embed_scale = embed_scale
        self.rope_theta = rope_theta
        self.scaled_rope = scaled_rope
        self.sliding_window = sliding_window
        self.layer_types = layer_types
        self.window_rope_theta = window_rope_theta
        self.rms_norm_eps = rms_norm_eps
        self.max_position_embeddings = max_position_embeddings
        self.use_cache = use_cache
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)

    def windowed(self, layer):
        """Whether a layer has the window."""
        return self.layer_types is not None and self.layer_types[layer] == "sliding_attention"

    @property
    def rotates_when_read(self):
        """Whether keys are cached before they rotate."""
        return self.kind == "mfa_kr" or self.tie_kv
