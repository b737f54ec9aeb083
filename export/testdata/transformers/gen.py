# Writes the models beside it with random weights, and what transformers 5.17.0 computes of them (torch 2.11, CPU, float32).
import json, os, torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM
OUT = os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(5)
common=dict(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, bos_token_id=0, eos_token_id=1, initializer_range=0.2)
cases={
 "llama": (LlamaForCausalLM, LlamaConfig(num_key_value_heads=2, head_dim=12, rms_norm_eps=1e-6, rope_parameters={"rope_type":"default","rope_theta":50000.0}, **common), "60KB"),
 "llama-tied": (LlamaForCausalLM, LlamaConfig(num_key_value_heads=4, rms_norm_eps=1e-5, tie_word_embeddings=True, **common), "5GB"),
 "deepseek": (DeepseekV3ForCausalLM, DeepseekV3Config(num_key_value_heads=4, q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=12, v_head_dim=12, qk_rope_head_dim=8, first_k_dense_replace=2, rms_norm_eps=1e-6, **common), "5GB"),
}
torch.set_grad_enabled(False)
for name,(cls,cfg,shard) in cases.items():
    try:
        m=cls(cfg).eval()
        for n,p in m.named_parameters():
            if p.dim()==1: p.add_(torch.randn_like(p)*0.1)
        d=f"{OUT}/{name}"
        m.save_pretrained(d, max_shard_size=shard)
        tokens=torch.randint(0,96,(2,40))
        logits=m(tokens).logits
        out=m.generate(tokens[:1,:8], max_new_tokens=32, min_new_tokens=32, do_sample=False, eos_token_id=None, pad_token_id=0)
        save_file({"tokens":tokens.int().contiguous(), "logits":logits.contiguous(), "greedy":out[0].int().contiguous()}, f"{d}/expected.safetensors")
        print(name, sorted(os.listdir(d)), logits.abs().max().item())
    except Exception as e:
        import traceback; traceback.print_exc()
