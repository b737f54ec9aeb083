#!/bin/sh
# Installs nvcc 12.4, the CUDA headers and the driver's link stub into .tools/cuda (or $1), for a Debian machine
# that lacks them. The packages are Debian trixie's, fetched from the archive that this machine's apt already uses,
# with package lists of our own: apt's configuration and installed packages stay as they are, and no root is needed.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
cuda=${1:-$here/.tools/cuda}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
say() { echo "install-nvcc: $*" >&2; }

if [ -x "$cuda/bin/nvcc" ] && "$cuda/bin/nvcc" --version >/dev/null 2>&1; then
	say "$cuda/bin/nvcc is there already"
	exit 0
fi
for tool in apt-get dpkg-deb tar; do
	command -v $tool >/dev/null || { say "$tool is missing: this script is for Debian; elsewhere install CUDA 12.4 or a later 12 and set CUDA_HOME"; exit 1; }
done
[ "$(dpkg --print-architecture)" = amd64 ] || { say "only amd64 is supported, this is $(dpkg --print-architecture)"; exit 1; }

archive=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
	awk '$1 ~ /debian/ && $2 !~ /-/ { print $1; exit }')
[ -n "$archive" ] || { say "apt's configuration names no Debian archive"; exit 1; }

mkdir -p "$(dirname "$cuda")"
work=$(mktemp -d "$(dirname "$cuda")/cuda.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/deb" "$work/root" "$work/none"
echo "deb [signed-by=$keyring] $archive trixie main contrib non-free" >"$work/sources.list"
trixie_apt() {
	apt-get -q -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts="$work/none" -o Dir::Etc::Preferences=/dev/null \
		-o Dir::Etc::PreferencesParts="$work/none" -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User= "$@" >&2
}

say "fetching the package lists and about 1 GB of packages from $archive (trixie)"
trixie_apt update
(cd "$work/deb" && trixie_apt download nvidia-cuda-toolkit nvidia-cuda-dev libcu++-dev)

say "unpacking the compiler, the headers and the driver's stub, about 250 MB"
for deb in "$work"/deb/*.deb; do
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/root" --exclude='*.a' --exclude='compute-sanitizer'
	rm "$deb"
done

usr=$work/root/usr
rm -f "$usr/bin/nvcc" "$usr/lib/nvidia-cuda-toolkit/bin/nvcc.profile" # a wrapper and a link, both to absolute paths
mkdir -p "$work/cuda/nvvm" "$work/cuda/lib64"
mv "$usr/lib/nvidia-cuda-toolkit/bin" "$usr/include" "$work/cuda/"
mv "$usr"/bin/* "$work/cuda/bin/"
mv "$usr/lib/nvidia-cuda-toolkit/libdevice" "$work/cuda/nvvm/"
mv "$usr/lib/x86_64-linux-gnu/stubs" "$work/cuda/lib64/"
cat >"$work/cuda/bin/nvcc.profile" <<'PROFILE'
NVVMIR_LIBRARY_DIR = $(_HERE_)/../nvvm/libdevice
PATH += $(_HERE_):
INCLUDES += "-I$(_HERE_)/../include" $(_SPACE_)
LIBRARIES =+ $(_SPACE_) "-L$(_HERE_)/../lib64/stubs"
PROFILE

"$work/cuda/bin/nvcc" --version | sed -n 's/^Cuda compilation tools, //p' >&2
rm -rf "$cuda"
mv "$work/cuda" "$cuda"
say "installed $cuda/bin/nvcc"
