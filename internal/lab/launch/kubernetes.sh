#!/usr/bin/env bash
# Runs the comparison in {{.Dir}} as indexed Jobs, one stage after the other, and makes the table and the report at the end.
# What is finished is kept: run it again after a failure. Needs kubectl, and this directory as the claim {{.Claim}} holds it.
set -euo pipefail
cd {{quote .Here}}
jobs={{quote (printf "%s/kubernetes/jobs.yaml" .Dir)}}
{{- range .Stages}}
kubectl delete job --ignore-not-found {{$.Name}}-{{.Name}}
kubectl apply -f "$jobs" -l stage={{.Name}}
kubectl wait --for=condition=Complete --timeout=-1s job/{{$.Name}}-{{.Name}} &
complete=$!
kubectl wait --for=condition=Failed --timeout=-1s job/{{$.Name}}-{{.Name}} &
failed=$!
wait -n "$complete" "$failed" # the table names what failed
kill "$complete" "$failed" 2>/dev/null || true
{{- end}}
{{quote .Self}} compare --collect {{quote .Dir}}
