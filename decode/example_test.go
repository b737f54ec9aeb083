package decode_test

import (
	"fmt"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/host"
	"headroom/model"
)

// Two requests share the passes of one engine on the processor. The model has random weights; decode.Load reads trained
// ones.
func Example() {
	m, err := model.New(model.Default(), attention.Default())
	if err != nil {
		fmt.Println(err)
		return
	}
	engine, err := decode.Open(decode.Random(m, 1), host.New(), decode.Options{Pages: 8})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer engine.Close()

	short, err := engine.Submit(decode.Request{Prompt: []int32{72, 105}, MaxTokens: 5})
	if err != nil {
		fmt.Println(err)
		return
	}
	sampled, err := engine.Submit(decode.Request{
		Prompt: []int32{72, 105}, MaxTokens: 300, Sampling: decode.Sampling{Temperature: 0.8, TopP: 0.95, Seed: 7},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for engine.Busy() {
		if err := engine.Step(); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println(len(short.Output()), short.Reason)
	fmt.Println(len(sampled.Output()), sampled.Reason, "of the model's context of", m.Config.Context)
	// Output:
	// 5 length
	// 254 length of the model's context of 256
}
