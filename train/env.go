package train

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"headroom/internal/build"
	"headroom/internal/disk"
	"headroom/kernels/ref"
)

// Environment describes one start of a run: program, machine and command.
type Environment struct {
	Start    string   `json:"start"` // RFC 3339
	Step     int      `json:"step"`  // steps done before this start
	Command  []string `json:"command"`
	Revision string   `json:"revision"` // of the program's source; "-dirty" where it had changes
	Go       string   `json:"go"`
	OS       string   `json:"os"`
	CPU      string   `json:"cpu"`
	Cores    int      `json:"cores"`
	Backend  string   `json:"backend"`
	Products string   `json:"products"`             // the library of the CPU's matrix products
	Saved    int      `json:"saved_step,omitempty"` // of the newest checkpoint that this start saved
}

// environment describes this process.
func environment(backend string, step int) Environment {
	return Environment{
		Start: time.Now().UTC().Format(time.RFC3339), Step: step, Command: os.Args, Revision: build.Revision(),
		Go: runtime.Version(),
		OS: runtime.GOOS + "/" + runtime.GOARCH, CPU: cpuModel(), Cores: runtime.GOMAXPROCS(0), Backend: backend,
		Products: ref.BLAS,
	}
}

const environmentName = "env.json"

// environments are the entries of a run's env.json, one for each start so far.
func environments(dir string) (all []Environment, err error) {
	path := filepath.Join(dir, environmentName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("train: %s is damaged, and says how the run was started: %w", path, err)
	}
	return all, nil
}

// appendEnvironment adds an entry to a run's env.json.
func appendEnvironment(dir string, e Environment) error {
	all, err := environments(dir)
	if err != nil {
		return err
	}
	return disk.ReplaceJSON(filepath.Join(dir, environmentName), append(all, e))
}

// noteSaved records in env.json which step was saved, so that a lost checkpoint is noticed.
func noteSaved(dir string, step int) error {
	all, err := environments(dir)
	if err != nil || len(all) == 0 {
		return err
	}
	all[len(all)-1].Saved = step
	return disk.ReplaceJSON(filepath.Join(dir, environmentName), all)
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
