package export

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"headroom/data"
	"headroom/internal/disk"
	"headroom/internal/safetensors"
	"headroom/model"
)

// GGUF writes an MHA, MQA or GQA checkpoint as a GGUF file (version 3) of the llama architecture, or of qwen3 or olmo2
// where it norms queries and keys, o.Dir being the file. It is there whole or not at all. Norms stay in float32, as
// readers expect. The format is that of ggml's docs/gguf.md.
func GGUF(checkpoint string, o Options) (r Report, err error) {
	dtype, ok := dtypes[o.DType]
	if !ok {
		return r, fmt.Errorf("export: dtype must be fp32 or bf16, not %s", o.DType)
	}
	t, _, err := model.Load(checkpoint)
	if err != nil {
		return r, err
	}
	class, reason := ClassOf(t)
	if w := t.Attention.Window; w > 0 && class != Gemma3 {
		return r, fmt.Errorf("export: attention.window is %d, and llama.cpp's llama has no windows", w)
	}
	arch, ok := architectures[class]
	switch {
	case !ok:
		if reason == "" {
			reason = "it has no architecture for " + t.Attention.Name()
		}
		return r, fmt.Errorf("export: GGUF is for MHA, MQA and GQA: %s", reason)
	case class == Qwen3 && t.Attention.RopeScaling.Factor != 0:
		return r, fmt.Errorf("export: llama.cpp's %s does not scale rotary embeddings (attention.rope_scaling)", arch)
	case class == Gemma3:
		if reason := gemma3Refused(t.Config, t.Attention.Resolve()); reason != "" {
			return r, fmt.Errorf("export: %s", reason)
		}
	case class == Olmo2:
		if reason := olmo2Refused(t.Config, t.Attention.Resolve()); reason != "" {
			return r, fmt.Errorf("export: %s", reason)
		}
	}
	if _, err := os.Stat(o.Dir); err == nil {
		return r, fmt.Errorf("export: %s is there already", o.Dir)
	}
	keys, err := ggufKeys(t, arch, o)
	if err != nil {
		return r, err
	}
	weights, err := t.OpenWeights(checkpoint)
	if err != nil {
		return r, err
	}
	defer weights.Close()
	tensors := ggufTensors(t, arch)
	r = Report{Dir: o.Dir, Format: "gguf", Class: class, DType: o.DType, Tensors: len(tensors), Tokenizer: o.Tokenizer,
		Files: []string{filepath.Base(o.Dir)}}
	return r, prefixed(disk.Write(o.Dir, func(w io.Writer) error {
		return writeGGUF(w, keys, tensors, source{weights}, dtype)
	}))
}

// architectures are llama.cpp's names of classes, by which it knows tensors and keys.
var architectures = map[Class]string{Llama: "llama", Qwen3: "qwen3", Olmo2: "olmo2", Gemma3: "gemma3"}

// ggufTensors names the tensors as llama.cpp does. In its llama, query and key rows stand in pairs, as its rotation of
// that architecture takes them; all others rotate halves, as ours.
func ggufTensors(t *model.Transformer, arch string) []tensor {
	n, a := namesOf(t), t.Attention.Resolve()
	rows := func(int) []int { return nil }
	if arch == "llama" {
		rows = func(heads int) []int { return paired(heads, 0, a.HeadDim) }
	}
	n.same("token_embd.weight", "embed")
	if a.RopeScaling.Factor != 0 { // by which llama.cpp divides each pair's frequency
		slowed := make([]float32, a.HeadDim/2)
		for i := range slowed {
			slowed[i] = float32(a.Rotary().Slowed(i, a.HeadDim))
		}
		n.list = append(n.list, tensor{name: "rope_freqs.weight", shape: []int{len(slowed)}, values: slowed})
	}
	for i := range t.Config.Layers {
		at, ours := fmt.Sprintf("blk.%d.", i), fmt.Sprintf("blocks.%d.", i)
		n.same(at+"attn_norm.weight", ours+"norm1")
		n.join(at+"attn_q.weight", part{n.params[ours+"attn.Wq"], true, rows(a.Heads)})
		n.join(at+"attn_k.weight", part{n.params[ours+"attn.Wk"], true, rows(a.Groups)})
		n.same(at+"attn_q_norm.weight", ours+"attn.normQueries")
		n.same(at+"attn_k_norm.weight", ours+"attn.normKeys")
		n.transposed(at+"attn_v.weight", ours+"attn.Wv")
		n.transposed(at+"attn_output.weight", ours+"attn.Wo")
		n.same(at+"post_attention_norm.weight", ours+"norm1post")
		n.same(at+"ffn_norm.weight", ours+"norm2")
		n.transposed(at+"ffn_gate.weight", ours+"mlp.Wgate")
		n.transposed(at+"ffn_up.weight", ours+"mlp.Wup")
		n.transposed(at+"ffn_down.weight", ours+"mlp.Wdown")
		n.same(at+"post_ffw_norm.weight", ours+"norm2post")
	}
	n.same("output_norm.weight", "norm")
	n.same("output.weight", "head")
	if arch == "olmo2" && t.Config.Tie { // which takes it from nowhere else
		n.same("output.weight", "embed")
	}
	return n.list
}

// A key of a GGUF file: a uint32, float32, bool, string, []string or []int32.
type key struct {
	name  string
	value any
}

func ggufKeys(t *model.Transformer, arch string, o Options) ([]key, error) {
	m, a := t.Config, t.Attention.Resolve()
	fileType := map[string]uint32{"fp32": 0, "bf16": 32}[o.DType]
	keys := []key{
		{"general.architecture", arch}, {"general.name", "headroom " + t.Attention.Name()},
		{"general.file_type", fileType},
		{"general.alignment", uint32(alignment)}, {arch + ".vocab_size", uint32(m.Vocab)},
		{arch + ".context_length", uint32(m.Context)},
		{arch + ".embedding_length", uint32(m.Width)}, {arch + ".block_count", uint32(m.Layers)},
		{arch + ".feed_forward_length", uint32(m.MLP)},
		{arch + ".attention.head_count", uint32(a.Heads)}, {arch + ".attention.head_count_kv", uint32(a.Groups)},
		{arch + ".attention.key_length", uint32(a.HeadDim)}, {arch + ".attention.value_length", uint32(a.HeadDim)},
		{arch + ".rope.dimension_count", uint32(a.HeadDim)}, {arch + ".rope.freq_base", float32(a.RopeTheta)},
		{arch + ".attention.layer_norm_rms_epsilon", float32(m.NormEps)},
	}
	if arch == "gemma3" {
		keys = append(keys, key{arch + ".attention.sliding_window", uint32(cmp.Or(a.Window, gemmaWindow))})
	}
	if o.Tokenizer == "" {
		return append(keys, key{"tokenizer.ggml.model", "none"}), nil
	}
	tokenizer, err := data.NewTokenizer(o.Tokenizer)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	more, err := ggufTokenizer(tokenizer, m.Vocab)
	if err != nil {
		return nil, fmt.Errorf("export: gguf: tokenizer %s: %w", o.Tokenizer, err)
	}
	return append(keys, more...), nil
}

// alignment is where each tensor's data may begin.
const alignment = 32

// Numbers of the format: its types of values and of tensors.
const (
	ggufUint32, ggufInt32, ggufFloat32, ggufBool, ggufString, ggufArray = 4, 5, 6, 7, 8, 9
	ggmlF32, ggmlBF16                                                   = 0, 30
)

// writeGGUF writes the header, the keys, where each tensor is, and the tensors.
func writeGGUF(w io.Writer, keys []key, tensors []tensor, from source, dtype safetensors.DType) error {
	b := binary.LittleEndian.AppendUint32([]byte("GGUF"), 3)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(keys)))
	for _, k := range keys {
		b = appendValue(appendString(b, k.name), k.value)
	}
	types := make([]safetensors.DType, len(tensors))
	at := 0
	for i, t := range tensors {
		types[i] = dtype
		if len(t.shape) == 1 {
			types[i] = safetensors.F32
		}
		b = binary.LittleEndian.AppendUint32(appendString(b, t.name), uint32(len(t.shape)))
		for d := range t.shape { // the innermost first
			b = binary.LittleEndian.AppendUint64(b, uint64(t.shape[len(t.shape)-1-d]))
		}
		b = binary.LittleEndian.AppendUint32(b, map[safetensors.DType]uint32{safetensors.F32: ggmlF32,
			safetensors.BF16: ggmlBF16}[types[i]])
		b = binary.LittleEndian.AppendUint64(b, uint64(at))
		at += padded(t.size() * types[i].Size())
	}
	b = append(b, make([]byte, padded(len(b))-len(b))...)
	if _, err := w.Write(b); err != nil {
		return err
	}
	for i, t := range tensors {
		x, err := from.tensor(t)
		if err != nil {
			return err
		}
		if b, err = safetensors.AppendFloats(b[:0], types[i], x); err != nil {
			return fmt.Errorf("tensor %s: %w", t.name, err)
		}
		if _, err := w.Write(append(b, make([]byte, padded(len(b))-len(b))...)); err != nil {
			return err
		}
	}
	return nil
}

func padded(n int) int { return (n + alignment - 1) / alignment * alignment }

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

func appendValue(b []byte, v any) []byte {
	le := binary.LittleEndian
	switch v := v.(type) {
	case uint32:
		return le.AppendUint32(le.AppendUint32(b, ggufUint32), v)
	case float32:
		b, _ = binary.Append(le.AppendUint32(b, ggufFloat32), le, v)
	case bool:
		b, _ = binary.Append(le.AppendUint32(b, ggufBool), le, v)
	case string:
		return appendString(le.AppendUint32(b, ggufString), v)
	case []int32:
		b = le.AppendUint64(le.AppendUint32(le.AppendUint32(b, ggufArray), ggufInt32), uint64(len(v)))
		b, _ = binary.Append(b, le, v)
	case []string:
		b = le.AppendUint64(le.AppendUint32(le.AppendUint32(b, ggufArray), ggufString), uint64(len(v)))
		for _, s := range v {
			b = appendString(b, s)
		}
	default:
		panic(fmt.Sprintf("export: no GGUF type for %T", v))
	}
	return b
}
