#!/usr/bin/env bash
# Builds the tests of every package that has GPU tests into a folder that runs on a GPU machine without Go:
# gpu-tests.sh FOLDER. Each package keeps its path there, so that tests find their testdata. `make gpu-tests` calls it.
set -euo pipefail

out=$1
rm -rf "$out"
packages=$(git ls-files --cached --others --exclude-standard '*_test.go' | xargs grep -lE '^//go:build .*\bgpu\b' | xargs -n1 dirname | sort -u)
for package in $packages; do
	mkdir -p "$out/$package"
	"${GO:-go}" test -c -ldflags="-s -w" -tags "$TAGS" -o "$out/$package/gpu.test" "./$package"
	echo "gpu-tests: $package" >&2
done
git ls-files -z '*/testdata/*' | xargs -0 cp --parents -t "$out" # a test may read its neighbour's

cat >"$out/run.sh" <<'RUN'
#!/usr/bin/env bash
# Runs every GPU test here: run.sh [ARGUMENTS OF go test, such as -test.run=RMSNorm]. A skipped GPU test is a failure.
# What a simulated device computes is left to `make cuda-test`.
cd "$(dirname "$0")"
export HEADROOM_GPU_TESTS=1 LD_LIBRARY_PATH=/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
failed=0
while read -r test; do
	echo "== ${test%/gpu.test}"
	(cd "$(dirname "$test")" && ./gpu.test -test.skip=/simulated "$@") || failed=1
done < <(find . -name gpu.test | sort)
exit $failed
RUN
chmod +x "$out/run.sh"
