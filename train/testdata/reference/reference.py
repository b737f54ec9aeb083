# Trains Hugging Face's Llama with torch.optim.AdamW for 50 steps and writes what headroom's trainer is held against: the initial weights and the batches
# (reference.safetensors), and the losses, gradient norms and learning rates (reference.json). On the CPU, in float32, and once more in float64, which says how much of a
# difference is rounding. Usage: python3 reference.py OUT
import json, math, sys, torch, transformers
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

out = sys.argv[1]
torch.set_num_threads(4)
STEPS, B, T, V = 50, 2, 32, 96
SHAPE = dict(vocab_size=V, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
             max_position_embeddings=T, rms_norm_eps=1e-5, initializer_range=0.05, attention_bias=False, mlp_bias=False, attention_dropout=0.0, hidden_act="silu")

# Two runs that between them have every part of the recipe: both schedules, clipping that bites, accumulation, a tied head, the z-loss.
RUNS = {
    "cosine": dict(tie=False, accumulate=1, schedule="cosine", warmup=5, decay=0.2, lr=3e-3, min_lr=0.1, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, clip=3.0, zloss=0.0),
    "wsd": dict(tie=True, accumulate=2, schedule="wsd", warmup=10, decay=0.4, lr=2e-3, min_lr=0.0, beta1=0.8, beta2=0.99, eps=1e-6, weight_decay=0.3, clip=2.0, zloss=1e-3),
}

def rate(c, step):  # counted from 1
    if step <= c["warmup"]:
        return c["lr"] * step / c["warmup"]
    floor = c["lr"] * c["min_lr"]
    if c["schedule"] == "cosine":
        return floor + (c["lr"] - floor) * 0.5 * (1 + math.cos(math.pi * (step - c["warmup"]) / (STEPS - c["warmup"])))
    falling = round(c["decay"] * STEPS)  # the last steps, in which the rate falls to the floor in a line
    return c["lr"] if step <= STEPS - falling else floor + (c["lr"] - floor) * (STEPS - step) / falling

def llama(tie):
    rope = dict(rope_parameters={"rope_type": "default", "rope_theta": 10000.0}) if int(transformers.__version__.split(".")[0]) >= 5 else dict(rope_theta=10000.0)
    return LlamaForCausalLM(LlamaConfig(tie_word_embeddings=tie, attn_implementation="eager", use_cache=False, **rope, **SHAPE))

g = torch.Generator().manual_seed(11)
tokens = torch.empty(STEPS, 2, B, T + 1, dtype=torch.int64)  # step, micro-batch, row
for s in range(STEPS):
    for a in range(2):
        for b in range(B):
            x = int(torch.randint(V, (1,), generator=g))
            for t in range(T + 1):
                tokens[s, a, b, t] = x
                x = (5 * x + 3) % V if float(torch.rand(1, generator=g)) < 0.7 else int(torch.randint(V, (1,), generator=g))

start = {}
for name, p in llama(False).named_parameters():
    x = torch.randn(p.shape, generator=g) * (0.1 if p.dim() == 1 else 0.05) + (1 if p.dim() == 1 else 0)
    start[name] = x.contiguous()

def train(c, dtype):
    m = llama(c["tie"]).to(dtype).train()
    with torch.no_grad():
        for name, p in m.named_parameters():
            p.copy_(start[name])
    matrices = [p for p in m.parameters() if p.dim() > 1]
    others = [p for p in m.parameters() if p.dim() <= 1]
    opt = torch.optim.AdamW([dict(params=matrices, weight_decay=c["weight_decay"]), dict(params=others, weight_decay=0.0)],
                            lr=c["lr"], betas=(c["beta1"], c["beta2"]), eps=c["eps"])
    losses, norms, rates = [], [], []
    for step in range(1, STEPS + 1):
        for group in opt.param_groups:
            group["lr"] = rate(c, step)
        opt.zero_grad()
        total = 0.0
        for a in range(c["accumulate"]):
            x = tokens[step - 1, a]
            logits = m(input_ids=x[:, :-1]).logits.reshape(-1, V)
            loss = torch.nn.functional.cross_entropy(logits, x[:, 1:].reshape(-1))
            if c["zloss"]:
                loss = loss + c["zloss"] * torch.logsumexp(logits, -1).square().mean()
            (loss / c["accumulate"]).backward()
            total += loss.item() / c["accumulate"]
        norms.append(float(torch.nn.utils.clip_grad_norm_(m.parameters(), c["clip"])))
        opt.step()
        losses.append(total)
        rates.append(rate(c, step))
    return dict(losses=losses, norms=norms, rates=rates)

report = dict(torch=torch.__version__, transformers=transformers.__version__, steps=STEPS, batch=B, context=T, model=SHAPE, runs={})
for name, c in RUNS.items():
    single, double = train(c, torch.float32), train(c, torch.float64)
    apart = max(abs(x - y) for x, y in zip(single["losses"], double["losses"]))
    report["runs"][name] = dict(config=c, float32=single, float64=double)
    print(f"{name}: loss {single['losses'][0]:.4f} to {single['losses'][-1]:.4f}, norms {min(single['norms']):.3f} to {max(single['norms']):.3f}, float64 differs by {apart:.2g} at most")
    assert apart < 1e-5, "rounding alone is near the tolerance"
    assert min(single["norms"]) < c["clip"] < max(single["norms"]), "clipping never bites, or always"
    assert single["losses"][-1] < single["losses"][0] - 0.3, "nothing was learnt"
start["tokens"] = tokens.to(torch.int32).contiguous()
save_file(start, f"{out}/reference.safetensors")
with open(f"{out}/reference.json", "w") as f:
    json.dump(report, f, indent=1)
