package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// sbatch runs an array at once, and says what it was asked for.
const sbatch = `#!/usr/bin/env bash
set -euo pipefail
echo "sbatch $*" >>"$SBATCH_LOG"
array= wrap= job=
for arg; do
	case "$arg" in
	--array=*) array=${arg#--array=} ;;
	--wrap=*) wrap=${arg#--wrap=} ;;
	--*) ;;
	*) job=$arg ;;
	esac
done
if [ -n "$wrap" ]; then bash -c "$wrap" >>"$SBATCH_LOG" 2>&1; fi
if [ -n "$array" ]; then
	array=${array%%%*}
	for id in $(seq "${array%-*}" "${array#*-}"); do
		SLURM_CPUS_PER_TASK=1 SLURM_ARRAY_TASK_ID=$id bash "$job" >>"$SBATCH_LOG" 2>&1
	done
fi
echo "41;cluster"
`

// launched writes a comparison's scripts and returns its directory and the command that submits them.
func launched(t *testing.T, args ...string) (dir, submit string) {
	t.Helper()
	file, text := kinds(t, "decode: [2x8]\n")
	dir = filepath.Join(t.TempDir(), "my runs")
	cmd := program(t, append([]string{"compare", file, "--text", "train=" + text, "--text", "fox=" + text, "--out", dir},
		args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return dir, strings.TrimSpace(string(out))
}

// shell checks the scripts, with shellcheck where it is installed.
func shell(t *testing.T, scripts ...string) {
	t.Helper()
	for _, script := range scripts {
		if out, err := exec.Command("bash", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if path, err := exec.LookPath("shellcheck"); err == nil {
			if out, err := exec.Command(path, script).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		}
	}
}

func TestLaunchSlurm(t *testing.T) {
	dir, submit := launched(t, "--launch", "slurm", "--jobs", "3", "--option=--partition=debug", "--option=--time=1")
	shell(t, filepath.Join(dir, "slurm", "submit.sh"), filepath.Join(dir, "slurm", "job.sh"))
	if job := read(t, filepath.Join(dir, "slurm", "job.sh")); !strings.Contains(job,
		"#SBATCH --partition=debug\n#SBATCH --time=1\n") || strings.Contains(job, "gpu") {
		t.Errorf("got %s", job)
	}
	bin := t.TempDir()
	put(t, sbatch, bin, "sbatch")
	if err := os.Chmod(filepath.Join(bin, "sbatch"), 0o777); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(bin, "log")
	cmd := exec.Command("bash", "-c", submit)
	cmd.Env = append(os.Environ(), "HEADROOM_AS_PROGRAM=1", "SBATCH_LOG="+log, "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, read(t, log))
	}
	asked := regexp.MustCompile(`(?m)^sbatch.*$`).FindAllString(read(t, log), -1)
	if len(asked) != 4 || !strings.Contains(asked[0], "--array=1-4%3") || strings.Contains(asked[0], "afterany") ||
		!strings.Contains(asked[1], "--dependency=afterany:41 --array=5-6%3") ||
		!strings.Contains(asked[2], "--array=7-8%3") || !strings.Contains(asked[3], "--dependency=afterany:41") {
		t.Errorf("asked %s", strings.Join(asked, "\n"))
	}
	if got := result(t, dir); strings.Count(got, "map[fox:") != 4 {
		t.Errorf("got %s\n%s", got, read(t, log))
	}
	page := read(t, filepath.Join(dir, "report.html"))
	if !strings.Contains(page, "--launch slurm") || strings.Contains(page, "--task") ||
		strings.Contains(page, `class="notes"`) {
		t.Errorf("the report does not name the command that launched it")
	}
}

func TestLaunchKubernetes(t *testing.T) {
	dir, _ := launched(t, "--launch", "kubernetes", "--image", "headroom:1", "--claim", "data", "--jobs", "3")
	shell(t, filepath.Join(dir, "kubernetes", "submit.sh"))
	type job struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct {
			Name   string
			Labels map[string]string
		}
		Spec struct {
			Completions, Parallelism int
			CompletionMode           string `yaml:"completionMode"`
			Template                 struct {
				Spec struct {
					Containers []struct {
						Image, WorkingDir string
						Command           []string
					}
				}
			}
		}
	}
	done := 0
	for d := yaml.NewDecoder(strings.NewReader(read(t, filepath.Join(dir, "kubernetes", "jobs.yaml")))); ; {
		var j job
		if err := d.Decode(&j); err != nil {
			break
		}
		if j.APIVersion != "batch/v1" || j.Kind != "Job" || j.Spec.CompletionMode != "Indexed" ||
			j.Spec.Parallelism != min(3, j.Spec.Completions) ||
			!regexp.MustCompile(`^kinds-stage-[123]$`).MatchString(j.Metadata.Name) ||
			"kinds-"+j.Metadata.Labels["stage"] != j.Metadata.Name {
			t.Errorf("got %+v", j)
		}
		for index := range j.Spec.Completions {
			c := j.Spec.Template.Spec.Containers[0]
			cmd := exec.Command(c.Command[0], c.Command[1:]...)
			cmd.Env = append(os.Environ(), "HEADROOM_AS_PROGRAM=1", "JOB_COMPLETION_INDEX="+string(rune('0'+index)))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			done++
		}
	}
	code, _, logs := headroom("compare", "--collect", dir)
	if got := result(t, dir); code != 0 || done != 8 || strings.Count(got, "map[fox:") != 4 {
		t.Errorf("code %d, %d tasks, %s\n%s", code, done, got, logs)
	}
}

func TestLaunchRefuses(t *testing.T) {
	file, text := kinds(t, "")
	for args, want := range map[string]string{
		"--launch pbs": `headroom: lab: launch must be slurm or kubernetes, not "pbs"`,
		"--launch kubernetes": "headroom: lab: launch kubernetes needs an image that has headroom, and a " +
			"volume claim",
		"--launch slurm --dry-run":          "headroom: if any flags in the group",
		"--jobs 0":                          "headroom: compare: jobs must be at least 1, not 0",
		"--text ../x=" + text:               `headroom: lab: compare: a text's name must be letters`,
		"--text train=" + text + "/nowhere": "headroom: data: ",
	} {
		dir := filepath.Join(t.TempDir(), "runs")
		code, out, logs := headroom(append([]string{"compare", file, "--out", dir}, strings.Fields(args)...)...)
		last := logs[strings.LastIndex(strings.TrimSpace(logs), "\n")+1:]
		if code != 2 || out != "" || !strings.HasPrefix(last, want) {
			t.Errorf("%s: code %d, out %q, logs %q", args, code, out, logs)
		}
	}
}
