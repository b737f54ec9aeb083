package lab

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
)

// A Launch writes a comparison as array jobs for a cluster. Each job runs compare --task, and compare --collect makes
// the table.
type Launch struct {
	On      string   // slurm or kubernetes
	Self    string   // the program, as the cluster's machines find it
	Options []string // of sbatch, such as --partition=gpu
	Image   string   // kubernetes: of the containers
	Claim   string   // kubernetes: a volume claim that holds the working directory, mounted at the same path
	N       int      // most tasks at once
}

//go:embed launch
var launchFiles embed.FS

var launchTemplates = template.Must(template.New("").Funcs(template.FuncMap{
	"quote": quoteWord,
}).ParseFS(launchFiles, "launch/*"))

// A stage is a range of tasks that can be done at once.
type stage struct {
	Name        string
	First, Last int
	Tasks       int
}

// Write puts the plan and the scripts into the comparison's directory and returns the command that submits them.
func (l Launch) Write(c *Compare) (submit string, err error) {
	switch {
	case l.On != "slurm" && l.On != "kubernetes":
		return "", fmt.Errorf("lab: launch must be slurm or kubernetes, not %q", l.On)
	case l.On == "kubernetes" && (l.Image == "" || l.Claim == ""):
		return "",
			fmt.Errorf(
				"lab: launch kubernetes needs an image that has headroom, and a volume claim that holds the working directory")
	}
	here, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	if err := c.store(); err != nil {
		return "", err
	}
	if len(c.LR) > 0 && c.extend() { // from the results of earlier jobs
		if err := c.save(); err != nil {
			return "", err
		}
	}
	view := struct {
		Launch
		Name, Dir, Here string
		GPU             bool
		Stages          []stage
	}{Launch: l, Name: jobName(c.Name), Dir: c.Dir, Here: here, GPU: c.Arms[0].Config.Train.Device == "cuda"}
	first := 1
	for i, tasks := range c.Stages() {
		name := fmt.Sprintf("stage-%d", i+1)
		view.Stages = append(view.Stages, stage{name, first, first + len(tasks) - 1, len(tasks)})
		first += len(tasks)
	}
	dir := filepath.Join(c.Dir, l.On)
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o777); err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	files := map[string]string{"submit.sh": l.On + ".sh"}
	if l.On == "slurm" {
		files["job.sh"] = "slurm-job.sh"
	} else {
		files["jobs.yaml"] = "kubernetes.yaml"
	}
	for name, source := range files {
		var text strings.Builder
		if err := launchTemplates.ExecuteTemplate(&text, source, view); err != nil {
			return "", fmt.Errorf("lab: %w", err)
		}
		if err := replace(filepath.Join(dir, name), []byte(text.String())); err != nil {
			return "", err
		}
	}
	return "bash " + quoteWord(filepath.Join(dir, "submit.sh")), nil
}

var notInNames = regexp.MustCompile(`[^a-z0-9-]+`)

// jobName is a name as clusters take it.
func jobName(name string) string {
	return strings.Trim(notInNames.ReplaceAllString(strings.ToLower(name), "-"), "-")
}
