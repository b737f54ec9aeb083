"""Writes the golden files theta-*.safetensors of this directory: models of kinds and of switches that gen.py does not
write, such as another rotary base, windows, norms of queries and keys, output gates, and blocks whose norms stand
elsewhere. They have the form of those of gen.py, and are computed without any library: in double precision, with
derivatives by the chain rule over every scalar. Run in this directory: python3 theta.py [OUT]
"""

import json
import math
import os
import random
import struct
import sys

B, T, V, C, MLP, LAYERS, H, D = 2, 7, 19, 20, 16, 2, 4, 8
EPS, THETA = 1e-5, 500.0
LAYER = {}  # what rotation and attention of the layer read: window, theta, scaling


class Scalar:
    """A number, what it was made of, and by how much it grows with each of these."""

    __slots__ = ("value", "parents", "slopes", "grad")

    def __init__(self, value, parents=(), slopes=()):
        self.value, self.parents, self.slopes, self.grad = value, parents, slopes, 0.0

    def __add__(self, other):
        return Scalar(self.value + other.value, (self, other), (1.0, 1.0))

    def __mul__(self, other):
        if isinstance(other, float):
            return Scalar(self.value * other, (self,), (other,))
        return Scalar(self.value * other.value, (self, other), (other.value, self.value))


def dot(x, y):
    return Scalar(sum(a.value * b.value for a, b in zip(x, y)), (*x, *y), (*(b.value for b in y), *(a.value for a in x)))


def backward(end):
    order, seen, stack = [], set(), [(end, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((p, False) for p in node.parents)
    end.grad = 1.0
    for node in reversed(order):
        for parent, slope in zip(node.parents, node.slopes):
            parent.grad += slope * node.grad


class Weight:
    """Scalars in the order of a shape; rows are along the last dimension."""

    def __init__(self, shape, values):
        self.shape, self.flat = shape, [Scalar(v) for v in values]
        self.rows = [self.flat[i : i + shape[-1]] for i in range(0, len(self.flat), shape[-1])]
        self.columns = list(zip(*self.rows))


def product(x, w, bias=None, rows=slice(None)):
    """x·w + bias, for a vector x and a slice of the rows of w."""
    out = [dot(x, column[rows]) for column in w.columns]
    return out if bias is None else [a + b for a, b in zip(out, bias)]


def rmsnorm(x, w):
    mean = sum(a.value**2 for a in x) / len(x) + EPS
    root = mean**-0.5
    slopes = [-(mean**-1.5) * a.value / len(x) for a in x]
    inverse = Scalar(root, tuple(x), tuple(slopes))
    return [a * inverse * b for a, b in zip(x, w)]


def slowed(frequency):
    """Llama 3.1's rope scaling, by the length of a wave: short ones stay, long ones are as many times longer as FACTOR says."""
    scaling = LAYER["scaling"]
    if scaling is None:
        return frequency
    factor, low, high, context = (scaling[k] for k in ("factor", "low_freq_factor", "high_freq_factor", "original_context"))
    wave = 2 * math.pi / frequency
    if wave < context / high:
        return frequency
    if wave > context / low:
        return frequency / factor
    smooth = (context / wave - low) / (high - low)
    return (1 - smooth) * frequency / factor + smooth * frequency


def rope(x, place, r):
    """Rotates the last r numbers of a head at a place: number i pairs with i + r/2."""
    plain, u, v = x[: len(x) - r], x[len(x) - r : len(x) - r // 2], x[len(x) - r // 2 :]
    angles = [place * slowed(LAYER["theta"] ** (-2 * i / r)) for i in range(r // 2)]
    first = [a * math.cos(t) + b * -math.sin(t) for a, b, t in zip(u, v, angles)]
    second = [b * math.cos(t) + a * math.sin(t) for a, b, t in zip(u, v, angles)]
    return plain + first + second


def softmax(scores):
    most = max(s.value for s in scores)
    powers = [math.exp(s.value - most) for s in scores]
    p = [q / sum(powers) for q in powers]
    return [Scalar(p[i], tuple(scores), tuple(p[i] * ((i == j) - p[j]) for j in range(len(p)))) for i in range(len(p))]


def attend(queries, keys, values):
    """Causal attention of heads in the layer's window: queries[t][h] over keys[s][h] and values[s][h]. Returns the heads side by side."""
    out = []
    for t in range(T):
        read = [s for s in range(t + 1) if t - s < LAYER["window"]]
        line = []
        for h in range(H):
            q = queries[t][h]
            p = softmax([dot(q, keys[s][h]) * (LAYER["dim"] or len(q)) ** -0.5 for s in read])
            line += [dot(p, column) for column in zip(*(values[s][h] for s in read))]
        out.append(line)
    return out


def parts(x, n):
    return [x[i * len(x) // n : (i + 1) * len(x) // n] for i in range(n)]


def qknorm(a, x, w, name, heads):
    """The heads of a vector, normed before they rotate: each by the one weight (head), all as one vector, or not."""
    if a.get("qk_norm") == "all":
        return parts(rmsnorm(x, w[name].flat), heads)
    if a.get("qk_norm") == "head":
        return [rmsnorm(one, w[name].flat) for one in parts(x, heads)]
    return parts(x, heads)


def grouped(a, w, xs):
    G, R = a["groups"], a["rope_dim"] or D
    queries, keys, values = [], [], []
    for t, x in enumerate(xs):
        queries.append([rope(q, t, R) for q in qknorm(a, product(x, w["Wq"]), w, "normQueries", H)])
        u = qknorm(a, product(x, w["Wk"]), w, "normKeys", G)
        k = [rope(one, t, R) for one in u]
        v = u if a.get("tie_kv") else parts(product(x, w["Wv"]), G)
        keys.append([k[h // (H // G)] for h in range(H)])
        values.append([v[h // (H // G)] for h in range(H)])
    return attend(queries, keys, values)


def tied(a, w, xs):
    G, R, P = a["groups"], D // 2, D - D // 2
    queries, keys, values = [], [], []
    for t, x in enumerate(xs):
        queries.append([rope(q, t, R) for q in parts(product(x, w["Wq"]), H)])
        states = parts(product(x, w["Wkv"]), G)
        turned = rope(product(x, w["Wkr"], w["bkr"].flat), t, R)
        keys.append([states[h // (H // G)][:P] + turned for h in range(H)])
        values.append([states[h // (H // G)] for h in range(H)])
    return attend(queries, keys, values)


def latent(a, w, xs):
    G, R, L = a["groups"], a["rope_dim"], a["latent_dim"]
    per = H // G
    queries, keys, values = [], [], []
    for t, x in enumerate(xs):
        q = product(x, w["Wdq"], w["bdq"].flat)
        if a["kind"] == "gla_q":
            width, made = len(q) // G, []
            for i, part in enumerate(parts(q, G)):
                made += product(rmsnorm(part, w["normq"].rows[i]), w["Wuq"], w["buq"].rows[i], slice(i * width, (i + 1) * width))
        else:
            made = product(rmsnorm(q, w["normq"].flat), w["Wuq"], w["buq"].flat)
        queries.append([rope(one, t, R) for one in parts(made, H)])
        latents = parts(product(x, w["Wdkv"], w["bdkv"].flat), G)
        turned = rope(product(x, w["Wkr"], w["bkr"].flat), t, R)
        k, v = [], []
        for n, c in enumerate(latents):
            c = rmsnorm(c, w["normkv"].rows[n])
            up = product(c, w["Wukv"], w["bukv"].rows[n], slice(n * L, (n + 1) * L))
            for both in parts(up, per):
                k.append(both[:D] + turned)
                v.append(both[D:])
        keys.append(k)
        values.append(v)
    return attend(queries, keys, values)


def grouped_latent(a, w, xs):
    """GQLA: one latent makes G heads of keys and values, which H/G queries share."""
    G, R = a["groups"], a["rope_dim"]
    queries, keys, values = [], [], []
    for t, x in enumerate(xs):
        q = rmsnorm(product(x, w["Wdq"], w["bdq"].flat), w["normq"].flat)
        queries.append([rope(one, t, R) for one in parts(product(q, w["Wuq"], w["buq"].flat), H)])
        c = rmsnorm(product(x, w["Wdkv"], w["bdkv"].flat), w["normkv"].flat)
        turned = rope(product(x, w["Wkr"], w["bkr"].flat), t, R)
        made = parts(product(c, w["Wukv"], w["bukv"].flat), G)
        keys.append([made[h // (H // G)][:D] + turned for h in range(H)])
        values.append([made[h // (H // G)][D:] for h in range(H)])
    return attend(queries, keys, values)


def factored(a, w, xs):
    queries, keys, values = [], [], []
    for t, x in enumerate(xs):
        latent = rmsnorm(product(x, w["Wdq"]), w["normq"].flat)
        queries.append([rope(one, t, D) for one in parts(product(latent, w["Wuq"]), H)])
        keys.append([rope(product(x, w["Wk"]), t, D)] * H)
        values.append([product(x, w["Wv"])] * H)
    return attend(queries, keys, values)


def tensored(a, w, xs):
    """TPA: queries, keys and values are products of a factor over heads and one over columns, divided by the rank."""

    def expand(heads, columns, rank):
        lines = list(zip(*parts(columns, rank)))  # D of them, of rank numbers each
        return [[dot(head, line) * (1 / rank) for line in lines] for head in parts(heads, H)]

    Rq, Rk, R = a["query_rank"], a["kv_rank"], a["rope_dim"] or D
    queries, keys, values = [], [], []
    for t, x in enumerate(xs):
        turned = [sum((rope(row, t, R) for row in parts(product(x, w[name]), rank)), []) for name, rank in (("Wbq", Rq), ("Wbk", Rk))]
        queries.append(expand(product(x, w["Waq"]), turned[0], Rq))
        keys.append(expand(product(x, w["Wak"]), turned[1], Rk))
        values.append(expand(product(x, w["Wav"]), product(x, w["Wbv"]), Rk))
    return attend(queries, keys, values)


def reused(a, w, xs):
    """MFA-KR: the one value head is v = u + alpha * (N u) of the key u before its rotation; a row of w["Wn"] is a column of N."""
    queries, keys, values = [], [], []
    for t, x in enumerate(xs):
        latent = rmsnorm(product(x, w["Wdq"]), w["normq"].flat)
        queries.append([rope(one, t, D) for one in parts(product(latent, w["Wuq"]), H)])
        u = product(x, w["Wk"])
        keys.append([rope(u, t, D)] * H)
        values.append([[p + q * alpha for p, q, alpha in zip(u, product(u, w["Wn"]), w["gainv"].flat)]] * H)
    return attend(queries, keys, values)


def low_rank(a, w, xs):
    """MLRA as in its paper's section 3 and its authors' model: attention to one latent after the other, by all heads that read it."""
    n, b, R, L, Q = a["latents"], a["groups"], a["rope_dim"], a["latent_dim"], a["query_latent_dim"]
    readers = H * b // n
    queries, latents, turned = [], [], []
    for t, x in enumerate(xs):
        cq = [v * math.sqrt(C / Q) for v in rmsnorm(product(x, w["Wdq"]), w["normq"].flat)]
        queries.append([rope(one, t, R) for one in parts(product(cq, w["Wuq"]), H)])
        norms = [rmsnorm(c, w["normkv"].rows[i]) for i, c in enumerate(parts(product(x, w["Wdkv"]), n))]
        latents.append([[v * math.sqrt(C / L) for v in c] for c in norms])
        turned.append(rope(product(x, w["Wkr"]), t, R))
    out = [[None] * (H * D) for _ in range(T)]
    for i in range(n):
        first = i // b * readers
        ups = [parts(product(latents[t][i], w["Wukv"], None, slice(i * L, (i + 1) * L)), readers) for t in range(T)]
        for h in range(readers):
            for t in range(T):
                read = [s for s in range(t + 1) if t - s < LAYER["window"]]
                p = softmax([dot(queries[t][first + h], ups[s][h][:D] + turned[s]) * (D + R) ** -0.5 for s in read])
                y = [dot(p, column) * b**-0.5 for column in zip(*(ups[s][h][D:] for s in read))]
                for d, v in enumerate(y, (first + h) * D):
                    out[t][d] = v if out[t][d] is None else out[t][d] + v
    return out


def layer_of(a, i):
    """What a configuration says of a layer. A window layer that has a base of its own rotates unscaled."""
    pattern = a.get("pattern", "window").split(",")
    layer = dict(window=T, theta=a["rope_theta"], scaling=a.get("rope_scaling"), dim=a.get("scale_dim"))
    if "window" in a and pattern[i % len(pattern)] == "window":
        layer["window"] = a["window"]
        if "window_rope_theta" in a:
            layer |= dict(theta=a["window_rope_theta"], scaling=None)
    return layer


KINDS = {
    "gqa": grouped,
    "gta": tied,
    "mfa": factored,
    "mfa_kr": reused, "tpa": tensored,
    "gqla": grouped_latent,
    "mlra": low_rank,
}  # the others are latent


def silu(x):
    s = 1 / (1 + math.exp(-x.value))
    return Scalar(x.value * s, (x,), (s * (1 + x.value * (1 - s)),))


def gelu(x):
    """PyTorch's gelu with approximate="tanh"."""
    root, cube = math.sqrt(2 / math.pi), 0.044715
    t = math.tanh(root * (x.value + cube * x.value**3))
    return Scalar(0.5 * x.value * (1 + t), (x,), (0.5 * (1 + t) + 0.5 * x.value * (1 - t * t) * root * (1 + 3 * cube * x.value**2),))


def normed(layer, name, x):
    """Of a norm that this model has, or x."""
    return rmsnorm(x, layer[name].flat) if name in layer else x


def gated(a, w, o, x):
    """What the heads of a token attended, times the sigmoid of a product of the layer's input: by head or by element."""
    if "gate" not in a:
        return o
    gates = []
    for score in product(x[: a.get("gate_width", len(x))], w["Wg"]):
        s = 1 / (1 + math.exp(-score.value))
        gates.append(Scalar(s, (score,), (s * (1 - s),)))
    return [p * gates[i * len(gates) // len(o)] for i, p in enumerate(o)]


def logits_of(model, a, w, tokens):
    xs = [w["embed"].rows[token] for token in tokens]
    if model.get("embed_scale"):
        xs = [[c * C**0.5 for c in x] for x in xs]
    act = gelu if model.get("activation") == "gelu_tanh" else silu
    for i in range(LAYERS):
        mine = {name.removeprefix(f"blocks.{i}."): x for name, x in w.items() if name.startswith(f"blocks.{i}.")}
        LAYER.update(layer_of(a, i))
        layer = {name.removeprefix("attn."): x for name, x in mine.items() if name.startswith("attn.")}
        inputs = [normed(mine, "norm1", x) for x in xs]
        mixed = KINDS.get(a["kind"], latent)(a, layer, inputs)
        mixed = [gated(a, layer, o, x) for o, x in zip(mixed, inputs)]
        xs = [[p + q for p, q in zip(x, normed(mine, "norm1post", product(o, layer["Wo"])))] for x, o in zip(xs, mixed)]
        for t, x in enumerate(xs):
            h = normed(mine, "norm2", x)
            inner = [act(g) * u for g, u in zip(product(h, mine["mlp.Wgate"]), product(h, mine["mlp.Wup"]))]
            xs[t] = [p + q for p, q in zip(x, normed(mine, "norm2post", product(inner, mine["mlp.Wdown"])))]
    return [[dot(rmsnorm(x, w["norm"].flat), row) for row in w["embed"].rows] for x in xs]


def loss_of(logits, targets):
    terms = []
    for line, target in zip(logits, targets):
        p = softmax(line)[target]
        terms.append(Scalar(-math.log(p.value), (p,), (-1 / p.value,)))
    return terms


def shapes(a):
    G, R, L, Q = a["groups"], a["rope_dim"], a["latent_dim"], a["query_latent_dim"]
    if a["kind"] == "gqa":
        s = {"Wq": (C, H * D), "Wk": (C, G * D)} | ({} if a.get("tie_kv") else {"Wv": (C, G * D)})
        if "qk_norm" in a:
            heads, groups = (H, G) if a["qk_norm"] == "all" else (1, 1)
            s |= {"normQueries": (heads * D,), "normKeys": (groups * D,)}
    elif a["kind"] == "gta":
        s = {"Wq": (C, H * D), "Wkv": (C, G * D), "Wkr": (C, D // 2), "bkr": (D // 2,)}
    elif a["kind"] == "mfa":
        s = {"Wdq": (C, Q), "normq": (Q,), "Wuq": (Q, H * D), "Wk": (C, D), "Wv": (C, D)}
    elif a["kind"] == "tpa":
        Rq, Rk = a["query_rank"], a["kv_rank"]
        s = {"Waq": (C, H * Rq), "Wbq": (C, Rq * D), "Wak": (C, H * Rk), "Wbk": (C, Rk * D), "Wav": (C, H * Rk), "Wbv": (C, Rk * D)}
    elif a["kind"] == "mfa_kr":
        s = {"Wdq": (C, Q), "normq": (Q,), "Wuq": (Q, H * D), "Wk": (C, D), "Wn": (D, D), "gainv": (D,)}
    elif a["kind"] == "mlra":
        n = a["latents"]
        s = {"Wdq": (C, Q), "normq": (Q,), "Wuq": (Q, H * (D + R)), "Wdkv": (C, n * L), "normkv": (n, L), "Wkr": (C, R),
             "Wukv": (n, L, H * G // n * 2 * D)}
    else:
        s = {"Wdq": (C, Q), "bdq": (Q,), "normq": (Q,), "Wuq": (Q, H * (D + R)), "buq": (H * (D + R),), "Wdkv": (C, G * L), "bdkv": (G * L,),
             "normkv": (G, L), "Wkr": (C, R), "bkr": (R,), "Wukv": (G, L, H // G * 2 * D), "bukv": (G, H // G * 2 * D)}
        if a["kind"] == "gqla":
            s |= {"Wdkv": (C, L), "bdkv": (L,), "normkv": (L,), "Wukv": (1, L, G * 2 * D), "bukv": (1, G * 2 * D)}
        if a["kind"] == "gla_q":
            s |= {"normq": (G, Q // G), "Wuq": (G, Q // G, H // G * (D + R)), "buq": (G, H // G * (D + R))}
    s |= {"Wo": (H * D, C)}
    if "gate" in a:
        s |= {"Wg": (a.get("gate_width", C), {"head": H, "element": H * D}[a["gate"]])}
    return s


def weights(model, a, draw):
    before, behind = model.get("norm", "pre") != "post", model.get("norm", "pre") != "pre"
    shape = {"embed": (V, C)}
    for i in range(LAYERS):
        p = f"blocks.{i}."
        shape |= {p + "norm1": (C,)} if before else {}
        shape |= {p + "attn." + k: v for k, v in shapes(a).items()}
        shape |= {p + "norm1post": (C,)} if behind else {}
        shape |= {p + "norm2": (C,)} if before else {}
        shape |= {p + "mlp.Wgate": (C, MLP), p + "mlp.Wup": (C, MLP), p + "mlp.Wdown": (MLP, C)}
        shape |= {p + "norm2post": (C,)} if behind else {}
    shape["norm"] = (C,)
    w = {}
    for name, s in shape.items():
        values = [draw.gauss(0, 1) for _ in range(math.prod(s))]
        values = [1 + 0.2 * x if "norm" in name else 0.3 * x for x in values]
        w[name] = Weight(s, struct.unpack(f"<{len(values)}f", struct.pack(f"<{len(values)}f", *values)))  # as the file has them
    return w


def save(path, tensors, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name, (dtype, shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}{'f' if dtype == 'F32' else 'i'}", *values)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def case(name, a, seed, out, **switches):
    draw = random.Random(seed)
    tokens, targets = ([[draw.randrange(V) for _ in range(T)] for _ in range(B)] for _ in range(2))
    model = dict(layers=LAYERS, width=C, mlp=MLP, vocab=V, context=T, norm_eps=EPS, tie=True, init_std=0.02) | switches
    w = weights(model, a, draw)
    logits = [logits_of(model, a, w, row) for row in tokens]
    terms = [term for row, want in zip(logits, targets) for term in loss_of(row, want)]
    loss = Scalar(sum(t.value for t in terms) / len(terms), tuple(terms), (1 / len(terms),) * len(terms))
    backward(loss)
    f = {"tokens": ("I32", (B, T), sum(tokens, [])), "targets": ("I32", (B, T), sum(targets, [])), "loss": ("F32", (1,), [loss.value]),
         "logits": ("F32", (B, T, V), [x.value for row in logits for line in row for x in line])}
    f |= {"weight." + k: ("F32", x.shape, [s.value for s in x.flat]) for k, x in w.items()}
    f |= {"grad." + k: ("F32", x.shape, [s.grad for s in x.flat]) for k, x in w.items()}
    path = os.path.join(out, f"theta-{name}.safetensors")
    save(path, f, {"headroom": json.dumps({"model": model, "attention": a}), "source": "plain Python in double precision"})
    print(f"{path}: {os.path.getsize(path)} bytes, loss {loss.value:.6f}")


def config(kind, groups, rope_dim=0, latent_dim=0, query=0):
    return dict(kind=kind, groups=groups, heads=H, head_dim=D, rope_dim=rope_dim, latent_dim=latent_dim, query_latent_dim=query, bias="paper",
                rope_theta=THETA)


if __name__ == "__main__":
    to = sys.argv[1] if len(sys.argv) > 1 else "."
    case("gta-2", config("gta", 2), 1, to)
    case("mla", config("mla", 1, 4, 20, 24), 2, to)
    case("gla_q-2", config("gla_q", 2, 4, 12, 24) | {"query_norm": "parts"}, 4, to)
    case("gla-2", config("gla", 2, 4, 12, 24), 3, to)
    case("mfa", config("mfa", 1, query=12), 5, to)
    case("mfa_kr", config("mfa_kr", 1, query=12), 7, to)
    case("mlra-4", config("mlra", 4, 4, 6, 24) | {"latents": 4}, 7, to)
    case("mlra-2", config("mlra", 2, 4, 6, 24) | {"latents": 4}, 8, to)
    case("tpa", config("tpa", 1) | {"query_rank": 3, "kv_rank": 2}, 14, to)
    case("gqa-2-tie", config("gqa", 2, 4) | {"tie_kv": True, "qk_norm": "head"}, 13, to)
    scaling = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=40)  # of 4 pairs 1 stays and 1 is between
    case("gqa-2-scaled", config("gqa", 2) | {"rope_scaling": scaling}, 6, to)
    case("gqla-2", config("gqla", 2, 4, 20, 24), 10, to)
    case("gqa-2-head", config("gqa", 2) | {"qk_norm": "head"}, 8, to)
    case("gqa-2-all", config("gqa", 2) | {"qk_norm": "all"}, 9, to)
    windows = {"window": 3, "pattern": "window,full", "window_rope_theta": 50.0}
    case("gqa-2-window", config("gqa", 2) | {"rope_scaling": scaling} | windows, 7, to)
    case("gla-2-window", config("gla", 2, 4, 12, 24) | windows, 8, to)
    case("gqa-2-gatehead", config("gqa", 2) | {"gate": "head"}, 10, to)
    case("gqa-2-gateelement", config("gqa", 2) | {"gate": "element"}, 11, to)
    case("gqa-2-gatewidth", config("gqa", 2) | {"gate": "head", "gate_width": 3}, 12, to)
    case("gta-2-gatehead", config("gta", 2) | {"gate": "head"}, 13, to)
    case("gta-2-gateelement", config("gta", 2) | {"gate": "element", "gate_width": 6}, 14, to)
    case("mla-gatehead", config("mla", 1, 4, 12, 16) | {"gate": "head"}, 15, to)
    case("mla-gateelement", config("mla", 1, 4, 12, 16) | {"gate": "element", "gate_width": 12}, 16, to)
    case("gqa-2-post", config("gqa", 2), 7, to, norm="post")
    case("gta-2-both", config("gta", 2), 8, to, norm="both")
    case("gqa-2-gelu", config("gqa", 2) | {"qk_norm": "head", "scale_dim": 5.5}, 10, to, norm="both", activation="gelu_tanh", embed_scale=True)
