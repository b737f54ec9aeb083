#!/usr/bin/env bash
# Submits the comparison in {{.Dir}}: each stage waits for the one before, and the last job makes the table and the report.
# What is finished is kept: submit it again after a failure.
set -euo pipefail
cd {{quote .Here}}
job={{quote (printf "%s/slurm/job.sh" .Dir)}}
log={{quote (printf "%s/slurm/logs" .Dir)}}/%x-%A-%a.txt
after=()
{{- range .Stages}}
id=$(sbatch --parsable "${after[@]}" --array={{.First}}-{{.Last}}{{if $.N}}%{{$.N}}{{end}} --output="$log" "$job")
id=${id%%;*}
after=(--dependency="afterany:$id")
echo "{{.Name}}: {{.Tasks}} tasks as job $id"
{{- end}}
collect=({{quote .Self}} compare --collect {{quote .Dir}})
id=$(sbatch --parsable "${after[@]}" --job-name={{.Name}}-collect --output={{quote (printf "%s/slurm/logs/collect-%%j.txt" .Dir)}}{{range .Options}} {{quote .}}{{end}} --wrap="$(printf '%q ' "${collect[@]}")")
echo "report: job ${id%%;*}, then {{.Dir}}/report.html"
