"""The configuration of a headroom model: a Llama-style decoder whose attention is one of several kinds.

GTA is grouped-TIED attention and GLA grouped LATENT attention, both of "Hardware-Efficient Attention for Fast Decoding"
(arXiv 2505.21487); neither is gated linear attention. MFA is multi-matrix factorization attention (arXiv 2412.19255).
"""

from transformers import PretrainedConfig


class HeadroomConfig(PretrainedConfig):
    model_type = "headroom"

    def __init__(
        self,
        kind="gqa",  # gqa, mfa, gta, or latent: MLA, GLA and GLA_q
        vocab_size=257,
        hidden_size=128,  # C
        intermediate_size=384,  # F
        num_hidden_layers=4,
        num_attention_heads=4,  # H
        num_key_value_heads=4,  # G: key/value heads, or latent heads
        head_dim=32,  # D
        rope_dim=32,  # R
        latent_dim=0,  # L, of latent kinds
        query_latent_dim=0,  # Q, of latent kinds and of MFA
        split_query=False,  # GLA_q: the query latent has a part for each latent head
        query_norm="whole",  # of GLA_q's query latent: whole, or its parts each apart
        low_rank_bias=True,  # on the projections of latent kinds, and on GTA's rope key
        rope_theta=10000.0,
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
        self.latent_dim = latent_dim
        self.query_latent_dim = query_latent_dim
        self.split_query = split_query
        self.query_norm = query_norm
        self.low_rank_bias = low_rank_bias
        self.rope_theta = rope_theta
        self.rms_norm_eps = rms_norm_eps
        self.max_position_embeddings = max_position_embeddings
        self.use_cache = use_cache
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)
