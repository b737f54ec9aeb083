"""Writes tiny models of the transformers library's classes with random weights, and what the library computes of them in float32
on a CPU: OUT/NAME has the files of save_pretrained and expected.safetensors, with logits of rows of tokens and greedy tokens.
Needs torch, transformers and safetensors, no network: python3 gen.py OUT
"""

import os
import sys

import torch
import transformers as hf
from safetensors.torch import save_file

VOCAB, ROWS, LENGTH, PROMPT = 96, 2, 40, 8
COMMON = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64, bos_token_id=0, eos_token_id=1, pad_token_id=None, initializer_range=0.2,
)


def plain(theta):
    return {"rope_type": "default", "rope_theta": theta}


CASES = {
    "llama": hf.LlamaConfig(**COMMON, head_dim=12, rms_norm_eps=1e-6, rope_parameters=plain(50000.0)),
    "llama-tied": hf.LlamaConfig(**COMMON | {"num_key_value_heads": 4}, rms_norm_eps=1e-5, tie_word_embeddings=True),
    "deepseek": hf.DeepseekV3Config(
        **COMMON | {"num_key_value_heads": 4}, q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=12, v_head_dim=12,
        qk_rope_head_dim=8, first_k_dense_replace=2, rms_norm_eps=1e-6,
    ),
    "llama3": hf.LlamaConfig(
        **COMMON, head_dim=12, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 32},
    ),
    "qwen3": hf.Qwen3Config(**COMMON, head_dim=12, rms_norm_eps=1e-6, tie_word_embeddings=False, rope_parameters=plain(1000.0)),
    "qwen3-window": hf.Qwen3Config(
        **COMMON, head_dim=12, rms_norm_eps=1e-6, tie_word_embeddings=True, rope_parameters=plain(1000.0), use_sliding_window=True,
        sliding_window=6, max_window_layers=1,
    ),
    "mistral": hf.MistralConfig(
        **COMMON, head_dim=12, rms_norm_eps=1e-5, sliding_window=5, tie_word_embeddings=False, rope_parameters=plain(700.0)
    ),
    "olmo2": hf.Olmo2Config(**COMMON, rms_norm_eps=1e-5, tie_word_embeddings=False, rope_parameters=plain(800.0)),
    "gemma3": hf.Gemma3TextConfig(
        **COMMON | {"num_hidden_layers": 3}, head_dim=12, rms_norm_eps=1e-6, sliding_window=7, query_pre_attn_scalar=20,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"], tie_word_embeddings=True,
        rope_parameters={"full_attention": plain(5000.0), "sliding_attention": plain(300.0)},
    ),
}
SHARD = {"llama": "60KB"}  # the most bytes of a file of weights


def draw(model):
    """Norms that differ from their beginning, and values of few bits: of Gemma's norms, to which 1 is added, too."""
    for p in model.parameters():
        if p.dim() == 1:
            p.copy_(((p + torch.randn_like(p) * 0.1) * 1024).round() / 1024)
        else:
            p.copy_(p.bfloat16().float())


out = sys.argv[1]
torch.set_grad_enabled(False)
for seed, (name, config) in enumerate(CASES.items()):
    torch.manual_seed(seed)
    model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    draw(model)
    where = os.path.join(out, name)
    model.save_pretrained(where, max_shard_size=SHARD.get(name, "5GB"))
    tokens = torch.randint(0, VOCAB, (ROWS, LENGTH))
    logits = model(tokens).logits
    ask = dict(max_new_tokens=LENGTH - PROMPT, min_new_tokens=LENGTH - PROMPT, do_sample=False, eos_token_id=None, pad_token_id=0)
    greedy = model.generate(tokens[:1, :PROMPT], attention_mask=torch.ones(1, PROMPT, dtype=torch.long), **ask)[0]
    expected = {"tokens": tokens.int(), "logits": logits, "greedy": greedy.int()}
    save_file({k: v.contiguous() for k, v in expected.items()}, os.path.join(where, "expected.safetensors"))
    print(f"{where} {type(model).__name__}: logits up to {logits.abs().max():.3f}, {len(set(greedy[PROMPT:].tolist()))} greedy tokens, "
          f"transformers {hf.__version__}, torch {torch.__version__}")
