package graph

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// HostFree is how many bytes of memory this process may still take: what the machine has free or could free, within the
// limits of its control group and of its address space. used is what it has taken of them so far. Go ends a process
// that asks for more, so large allocations are checked here first.
func HostFree(used int) int {
	free := math.MaxInt
	if kib := meminfo("MemAvailable") + meminfo("SwapFree"); kib > 0 {
		touched := resident() // the system counts what was taken only when it is first written
		free = kib<<10 + touched - max(used, touched)
	}
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if text, err := os.ReadFile(path); err == nil {
			if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
				free = min(free, n-used)
			}
		}
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &limit); err == nil && limit.Cur < math.MaxInt {
		free = min(free, int(limit.Cur)-used)
	}
	return max(0, free)
}

// meminfo is a line of /proc/meminfo in KiB, 0 where there is none.
func meminfo(name string) int {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == name+":" {
			n, _ := strconv.Atoi(fields[1])
			return n
		}
	}
	return 0
}

// resident is what of this process's memory the system has given it, in bytes.
func resident() int {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.Atoi(fields[1])
	return pages * os.Getpagesize()
}

// A MemoryError says that a device has no room for the tensors of a step.
type MemoryError struct {
	Need int // bytes
	Err  error
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("graph: the tensors of a step need %.2f GiB (%d bytes): %v", gib(e.Need), e.Need, e.Err)
}

func (e *MemoryError) Unwrap() error { return e.Err }

func gib(bytes int) float64 { return float64(bytes) / (1 << 30) }

// mostBytes bounds what a single value may take: sums of sizes below it do not overflow.
const mostBytes = 1 << 50

// fits refuses a shape beyond all machines, whose number of elements need not even be an integer.
func fits(shape []int) error {
	bytes := 4.0
	for _, d := range shape {
		bytes *= float64(d)
	}
	if bytes > mostBytes {
		return &MemoryError{int(min(bytes, 1<<62)), fmt.Errorf("a tensor of shape %v is beyond any machine", shape)}
	}
	return nil
}
