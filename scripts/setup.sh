#!/usr/bin/env bash
# Installs what building headroom needs and this machine lacks. Needs root or sudo only when something is missing.
set -euo pipefail

command -v go >/dev/null || { echo "setup: Go is missing: install Go 1.26 or newer" >&2; exit 2; }

missing=()
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
echo 'int main(void){return 0;}' | gcc -x c - -lopenblas -o /dev/null 2>/dev/null || missing+=(libopenblas-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

command -v apt-get >/dev/null || { echo "setup: please install ${missing[*]} (this script knows only apt-get)" >&2; exit 2; }
sudo=
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || { echo "setup: run as root, or install sudo: ${missing[*]} must be installed" >&2; exit 2; }
	sudo=sudo
fi
echo "setup: installing ${missing[*]} with apt-get" >&2
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
