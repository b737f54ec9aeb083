package train

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"headroom/data"
)

// State is what a resumed run needs besides weights and moments.
type State struct {
	Step     int               `json:"step"` // steps done
	Tokens   int64             `json:"tokens"`
	Elapsed  float64           `json:"elapsed_s"`
	Training float64           `json:"training_s"` // seconds in steps, without evaluations and checkpoints
	Data     data.State        `json:"data"`       // position of the loader
	Best     *Best             `json:"best,omitempty"`
	Settings map[string]string `json:"settings"`          // settings that must be the same at resume
	Choices  map[string]int    `json:"choices,omitempty"` // the device's algorithms by shape, which must be the same too
	Files    map[string]int64  `json:"files"`             // bytes of the checkpoint's other files
	SHA256   map[string]string `json:"sha256,omitempty"`  // their checksums; older checkpoints have none
	Sum      string            `json:"sum,omitempty"`     // checksum of state.json itself, with zeros in this place
}

// Best is the best evaluation so far.
type Best struct {
	Step int     `json:"step"`
	NLL  float64 `json:"nll"` // mean over the sets, nats a token
}

// settings flattens a configuration to its keys as they stand in a file, below a prefix.
func settings(to map[string]string, prefix string, config any) {
	v := reflect.ValueOf(config)
	if v.Kind() != reflect.Struct {
		to[prefix] = fmt.Sprint(config)
		return
	}
	for i := range v.NumField() {
		key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("mapstructure"), ",")
		if key == "-" {
			continue
		}
		if key == "" {
			key = strings.ToLower(v.Type().Field(i).Name)
		}
		settings(to, prefix+"."+key, v.Field(i).Interface())
	}
}

// settings are the values that decide the course of a run. How often it evaluates, saves and logs does not, nor does
// the number of steps where the rate does not depend on it.
func (c Config) settings(to map[string]string) {
	settings(to, "train", c)
	for _, key := range []string{"tokens", "eval_every", "save_every", "keep", "log_every", "device"} {
		delete(to, "train."+key)
	}
	if c.Schedule == "constant" {
		delete(to, "train.steps")
	}
	if c.Ranks > 1 {
		to["train.ranks"] = strconv.Itoa(c.Ranks)
	}
}

// otherRanks says that a run goes on with another number of processes, which is not bit for bit. The rows of a step
// must be the same; how they are dealt out is then struck from both.
func otherRanks(was, now map[string]string) bool {
	if was["train.ranks"] == now["train.ranks"] {
		return false
	}
	rows := func(s map[string]string) (n int) {
		n = 1
		for _, key := range []string{"train.batch", "train.accumulate", "train.ranks"} {
			if x, err := strconv.Atoi(s[key]); err == nil {
				n *= x
			}
		}
		return n
	}
	if rows(was) != rows(now) {
		return false
	}
	for _, key := range []string{"train.batch", "train.accumulate", "train.ranks"} {
		delete(was, key)
		delete(now, key)
	}
	return true
}

// differences lists what was set otherwise, one "key was, now is" each.
func differences(was, now map[string]string) []string {
	all := maps.Clone(was)
	maps.Copy(all, now)
	var diff []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if was[key] != now[key] {
			diff = append(diff, fmt.Sprintf("%s was %q, now %q", key, was[key], now[key]))
		}
	}
	return diff
}
