#!/usr/bin/env bash
# One task of the comparison in {{.Dir}}: a line of an array that submit.sh submits.
#SBATCH --job-name={{.Name}}
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
{{- if .GPU}}
#SBATCH --gpus-per-task=1
#SBATCH --ntasks=1
{{- end}}
{{- range .Options}}
#SBATCH {{.}}
{{- end}}
set -euo pipefail
cd {{quote .Here}}
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
	export GOMAXPROCS="$SLURM_CPUS_PER_TASK" OPENBLAS_NUM_THREADS="$SLURM_CPUS_PER_TASK"
fi
# At SIGTERM, which comes two minutes before the limit, the run saves; a later job goes on from there.
exec {{quote .Self}} compare {{quote .Dir}} --task "$SLURM_ARRAY_TASK_ID"
