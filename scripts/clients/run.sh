#!/usr/bin/env bash
# Real clients against what headroom writes and serves: run.sh HEADROOM runs every *.mjs here with the program's path. Where
# there is no node, or npm reaches no registry and nothing is installed yet, it says so and ends well.
set -euo pipefail
headroom=$(realpath "$1")
cd "$(dirname "$0")"

skip() {
	echo "clients: skipped: $1"
	exit 0
}
command -v node >/dev/null && command -v npm >/dev/null || skip "there is no node with npm on this machine"
node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' || skip "node $(node --version) is older than 20"
[ "$(uname -sm)" = "Linux x86_64" ] || skip "the locked llama.cpp is that of Linux on x86-64"

# What is installed is that of the lock file, or is installed again.
if ! cmp -s package-lock.json node_modules/.locked; then
	timeout 20 npm ping >/dev/null 2>&1 || skip "npm reaches no registry"
	npm ci --omit=optional --ignore-scripts --no-audit --no-fund --loglevel=error
	cp package-lock.json node_modules/.locked
fi
for script in *.mjs; do
	node "$script" "$headroom"
done
