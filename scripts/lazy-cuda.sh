#!/bin/sh
# Writes a static library that stands in for libcuda.so at link time: lazy-cuda.sh STUB.so OUT.a
# Each function of the driver becomes a jump through a table, which lazy_cuda_load fills by dlopen. Until then cuInit
# does nothing and succeeds, for gorgonia.org/cu calls it when the program starts, and the others answer "not
# initialized". So a binary with CUDA starts on a machine without a driver, and loads it only when asked for a GPU.
set -eu
stub=$1 out=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nm -D --defined-only "$stub" | awk '$3 ~ /^cu/ { print $3 }' >"$work/names"

awk '
BEGIN { print ".section .note.GNU-stack,\"\",@progbits\n.text"
        print "later: xorl %eax, %eax\n ret"                          # CUDA_SUCCESS
        print "absent: movl $3, %eax\n ret"                           # CUDA_ERROR_NOT_INITIALIZED
        print ".globl lazy_cuda_missing\nlazy_cuda_missing: movl $500, %eax\n ret" } # CUDA_ERROR_NOT_FOUND
      { name[NR] = $1; printf ".globl %s\n.type %s, @function\n%s: jmp *slots+%d(%%rip)\n", $1, $1, $1, 8 * (NR - 1) }
END   { print ".data\n.balign 8\n.globl lazy_cuda_slots\nlazy_cuda_slots:\nslots:"
        for (i = 1; i <= NR; i++) print ".quad " (name[i] == "cuInit" ? "later" : "absent")
        print ".globl lazy_cuda_names\nlazy_cuda_names:"
        for (i = 1; i <= NR; i++) print ".quad name" i
        print ".quad 0\n.section .rodata"
        for (i = 1; i <= NR; i++) print "name" i ": .asciz \"" name[i] "\"" }' "$work/names" >"$work/jumps.s"

cat >"$work/load.c" <<'C'
#include <dlfcn.h>
extern void *lazy_cuda_slots[];
extern const char *const lazy_cuda_names[];
extern int lazy_cuda_missing(void);
int lazy_cuda_load(void) {
	static void *library;
	if (library)
		return 1;
	if (!(library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL)))
		return 0;
	for (int i = 0; lazy_cuda_names[i]; i++) {
		void *f = dlsym(library, lazy_cuda_names[i]);
		lazy_cuda_slots[i] = f ? f : (void *)lazy_cuda_missing;
	}
	return 1;
}
C
${CC:-gcc} -O2 -fPIC -c "$work/load.c" -o "$work/load.o"
${CC:-gcc} -c "$work/jumps.s" -o "$work/jumps.o"
ld -r "$work/load.o" "$work/jumps.o" -o "$work/cuda.o" # one member: the weak lazy_cuda_load alone would not pull it in
rm -f "$out"
ar rcs "$out" "$work/cuda.o"
