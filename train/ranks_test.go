package train

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"headroom/internal/graph"
	"headroom/internal/graph/graphtest"
	"headroom/model"
)

// trainRanks trains the tiny model on so many ranks, from the newest checkpoint in dir or from the start, until the
// step that ctx ends in, and returns what each rank says.
func trainRanks(t *testing.T, dir, tokens string, c Config, ranks int, shard graph.Sharding, last int) []Summary {
	t.Helper()
	c.Ranks = ranks
	c.Batch /= ranks
	sums := make([]Summary, ranks)
	var all sync.WaitGroup
	for rank, group := range graphtest.Loopback(ranks) {
		all.Go(func() {
			if err := func() error {
				r, err := tinyRank(dir, tokens, c, group, shard)
				if err != nil {
					return err
				}
				ctx, stop := context.WithCancel(context.Background())
				defer stop()
				r.Resume = true
				r.Data = &hooked{Source: r.Data, before: func(n int) {
					if n == last && rank == 1 { // one rank hears of it alone
						stop()
					}
				}}
				sums[rank], err = r.Train(ctx)
				return err
			}(); err != nil {
				panic(fmt.Sprintf("rank %d of %d: %v", rank, ranks, err))
			}
		})
	}
	all.Wait()
	return sums
}

// TestRanks: two ranks learn what one process does with as many rows, evaluate, are interrupted through one of them, go
// on with the same bits, and leave a whole checkpoint, whatever they divide.
func TestRanks(t *testing.T) {
	tokens := shard(t, 4000)
	alone := t.TempDir()
	train(t, tiny(t, alone, tokens, tinyConfig()))
	want := lines(t, alone)
	for name, sharding := range map[string]graph.Sharding{"optimizer": graph.ShardOptimizer,
		"weights": graph.ShardWeights} {
		t.Run(name, func(t *testing.T) {
			whole, parts := t.TempDir(), t.TempDir()
			sums := trainRanks(t, whole, tokens, tinyConfig(), 2, sharding, -1)
			if sums[0].Step != 10 || sums[1].Step != 10 {
				t.Fatalf("the ranks ended at steps %d and %d", sums[0].Step, sums[1].Step)
			}
			got := lines(t, whole)
			for i, line := range got {
				if d := math.Abs(line.Loss - want[i].Loss); !(d < 1e-3) {
					t.Errorf("step %d: loss %v, alone %v", i+1, line.Loss, want[i].Loss)
				}
				if len(line.Eval) != len(want[i].Eval) {
					t.Errorf("step %d: %d evaluations, alone %d", i+1, len(line.Eval), len(want[i].Eval))
				}
			}
			if first := trainRanks(t, parts, tokens, tinyConfig(), 2, sharding, 5)[0]; !first.Interrupted || first.Step >= 10 {
				t.Fatalf("ended at step %d, interrupted %v", first.Step, first.Interrupted)
			}
			trainRanks(t, parts, tokens, tinyConfig(), 2, sharding, -1)
			for i, line := range lines(t, parts) {
				if line.Loss != got[i].Loss || line.GradNorm != got[i].GradNorm || !reflect.DeepEqual(line.Eval, got[i].Eval) {
					t.Errorf("step %d: loss %v, norm %v after going on, %v and %v without", i+1, line.Loss, line.GradNorm,
						got[i].Loss, got[i].GradNorm)
				}
			}
			if !bytes.Equal(weightsOf(t, whole), weightsOf(t, parts)) {
				t.Error("the checkpoints differ")
			}
		})
	}
}

// weightsOf is the file of the newest checkpoint's weights.
func weightsOf(t *testing.T, dir string) []byte {
	t.Helper()
	path, _, err := Latest(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(path, model.WeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
