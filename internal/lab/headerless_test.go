package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHeaderless trains on ids without a header, as nanoGPT writes them, where the configuration asks for it.
func TestHeaderless(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"train.bin", "val.bin"} {
		raw := make([]byte, 0, 2000)
		for i := range 1000 {
			raw = append(raw, byte('a'+i*i%7), 0)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	sets := []string{"data.train=" + filepath.Join(dir, "train.bin"), "data.val.fox=" + filepath.Join(dir, "val.bin")}
	run := Run{Dir: filepath.Join(dir, "run"), Config: load(t, tiny(dir), sets...)}
	if _, err := run.Do(context.Background()); err == nil || !strings.Contains(err.Error(), "data.headerless: true") {
		t.Errorf("without asking: %v", err)
	}
	run.Config = load(t, tiny(dir), append(sets, "data.headerless=true")...)
	r, err := run.Do(context.Background())
	if err != nil {
		t.Errorf("%+v, %v", r, err)
	}
}
