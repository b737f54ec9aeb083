package export

import (
	"fmt"
	"strings"

	"headroom/attention"
	"headroom/internal/graph"
	"headroom/model"
)

// A tensor is one of a foreign checkpoint, made of parameters of ours, its rows one part after the other.
type tensor struct {
	name  string
	shape []int
	parts []part

	less   float32   // their values are less by so much than ours
	values []float32 // what it holds, where that follows from the configuration and it has no parts
}

// A part is a parameter inside a foreign tensor: as it is, or transposed from our [in, out] to their [out, in].
type part struct {
	param graph.Param
	turn  bool
	order []int // our column of each of their rows; nil where they are the same
}

// size is how many values a tensor has.
func (t tensor) size() int {
	n := len(t.values)
	for _, p := range t.parts {
		n += p.param.Size()
	}
	return n
}

// columns are what a part's rows are made of: out columns of in values.
func (p part) columns() (in, out int) {
	out = p.param.Shape[len(p.param.Shape)-1]
	return p.param.Size() / out, out
}

// column is the column of ours for a row of theirs.
func (p part) column(row int) int {
	if p.order == nil {
		return row
	}
	return p.order[row]
}

// pack writes our values in their order.
func (p part) pack(to, ours []float32) {
	if !p.turn {
		copy(to, ours)
		return
	}
	in, out := p.columns()
	for r := range out {
		c := p.column(r)
		for i := range in {
			to[r*in+i] = ours[i*out+c]
		}
	}
}

// unpack is the inverse of pack.
func (p part) unpack(ours, from []float32) {
	if !p.turn {
		copy(ours, from)
		return
	}
	in, out := p.columns()
	for r := range out {
		c := p.column(r)
		for i := range in {
			ours[i*out+c] = from[r*in+i]
		}
	}
}

// names collects the foreign tensors of a model, by the parameters of ours.
type names struct {
	params map[string]graph.Param
	list   []tensor
}

func namesOf(t *model.Transformer) *names {
	n := &names{params: map[string]graph.Param{}}
	for _, p := range t.Params() {
		n.params[p.Name] = p
	}
	return n
}

// same keeps a parameter as it is, under another name. A parameter that the model does not have is left out.
func (n *names) same(name, ours string) {
	if p, ok := n.params[ours]; ok {
		n.list = append(n.list, tensor{name: name, shape: p.Shape, parts: []part{{param: p}}})
	}
}

// transposed joins the columns of parameters [in, out] as the rows of one tensor [all out, in].
func (n *names) transposed(name string, ours ...string) {
	var parts []part
	for _, o := range ours {
		parts = append(parts, part{param: n.params[o], turn: true})
	}
	n.join(name, parts...)
}

func (n *names) join(name string, parts ...part) {
	rows, in := 0, 0
	for _, p := range parts {
		i, out := p.columns()
		rows, in = rows+out, i
	}
	n.list = append(n.list, tensor{name: name, shape: []int{rows, in}, parts: parts})
}

// backbone names what all classes of the Llama family share.
func (n *names) backbone(t *model.Transformer, attention func(at, ours string)) []tensor {
	n.same("model.embed_tokens.weight", "embed")
	for i := range t.Config.Layers {
		at, ours := fmt.Sprintf("model.layers.%d.", i), fmt.Sprintf("blocks.%d.", i)
		n.same(at+"input_layernorm.weight", ours+"norm1")
		attention(at+"self_attn.", ours+"attn.")
		if t.Config.Norm == model.PreNorm {
			n.same(at+"post_attention_layernorm.weight", ours+"norm2")
		} else {
			n.same(at+"post_attention_layernorm.weight", ours+"norm1post")
			n.same(at+"pre_feedforward_layernorm.weight", ours+"norm2")
			n.same(at+"post_feedforward_layernorm.weight", ours+"norm2post")
		}
		n.transposed(at+"mlp.gate_proj.weight", ours+"mlp.Wgate")
		n.transposed(at+"mlp.up_proj.weight", ours+"mlp.Wup")
		n.transposed(at+"mlp.down_proj.weight", ours+"mlp.Wdown")
	}
	n.same("model.norm.weight", "norm")
	n.same("lm_head.weight", "head")
	return n.list
}

// llama names the tensors of LlamaForCausalLM, and where there are norms of queries and keys those of Qwen3ForCausalLM
// and Olmo2ForCausalLM.
func llama(t *model.Transformer) []tensor {
	n := namesOf(t)
	return n.backbone(t, func(at, ours string) {
		n.transposed(at+"q_proj.weight", ours+"Wq")
		n.transposed(at+"k_proj.weight", ours+"Wk")
		n.transposed(at+"v_proj.weight", ours+"Wv")
		n.transposed(at+"o_proj.weight", ours+"Wo")
		n.same(at+"q_norm.weight", ours+"normQueries")
		n.same(at+"k_norm.weight", ours+"normKeys")
	})
}

// deepseek names the tensors of DeepseekV3ForCausalLM. Its rotary columns stand in pairs.
func deepseek(t *model.Transformer) []tensor {
	n, a := namesOf(t), t.Attention.Resolve()
	return n.backbone(t, func(at, ours string) {
		n.transposed(at+"q_a_proj.weight", ours+"Wdq")
		n.same(at+"q_a_layernorm.weight", ours+"normq")
		n.join(at+"q_b_proj.weight", part{n.params[ours+"Wuq"], true, paired(a.Heads, a.HeadDim, a.RopeDim)})
		n.join(at+"kv_a_proj_with_mqa.weight", part{param: n.params[ours+"Wdkv"], turn: true},
			part{n.params[ours+"Wkr"], true, paired(1, 0, a.RopeDim)})
		n.list = append(n.list, tensor{name: at + "kv_a_layernorm.weight", shape: []int{a.LatentDim},
			parts: []part{{param: n.params[ours+"normkv"]}}})
		n.transposed(at+"kv_b_proj.weight", ours+"Wukv")
		n.transposed(at+"o_proj.weight", ours+"Wo")
	})
}

// paired is the order of heads of plain columns and r rotary ones where rotary column i stands beside i + r/2.
func paired(heads, plain, r int) (order []int) {
	for h := range heads {
		at := h * (plain + r)
		for i := range plain {
			order = append(order, at+i)
		}
		for i := range r / 2 {
			order = append(order, at+plain+i, at+plain+i+r/2)
		}
	}
	return order
}

// own names the tensors of HeadroomForCausalLM, the class of modeling_headroom.py: ours, with linear layers transposed
// as in PyTorch. It keeps the up-projections of latents as they are.
func own(t *model.Transformer) []tensor {
	n := namesOf(t)
	for _, p := range t.Params() {
		if p.Name == "head" {
			n.same("lm_head.weight", p.Name)
			continue
		}
		name := "model." + p.Name
		at := strings.LastIndexByte(name, '.') + 1
		role, of := t.Attention.Kind.Role(name[at:])
		switch {
		case p.Name == "embed" || role == attention.Norm:
			n.same(name+".weight", p.Name)
		case role == attention.Gain:
			n.same(name, p.Name)
		case role == attention.Matrix:
			n.transposed(name+".weight", p.Name)
		case role == attention.Bias:
			n.same(name[:at]+of+".bias", p.Name)
		case role == attention.Parted:
			shape := p.Shape
			if len(shape) == 2 {
				shape = append([]int{1}, shape...)
			}
			n.list = append(n.list, tensor{name: name, shape: shape, parts: []part{{param: p}}})
		case role == attention.PartedBias: // one row
			n.list = append(n.list, tensor{name: name, shape: []int{p.Size()}, parts: []part{{param: p}}})
		default:
			panic(fmt.Sprintf("export: nobody has said what %s does", p.Name))
		}
	}
	return n.list
}
