package ranks

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// A Place is the rank of this process in a job, and how to reach rank 0.
type Place struct {
	Rank, Size int
	Local      int    // which GPU of its machine it takes
	Master     string // host:port where rank 0 listens
	Source     string // the variables or flags that it comes from
	// processes to start on this machine, the first of which has Rank, while this one waits for them; 0 to start none
	Spawn int
	Job   string // a token that only ranks of this job know, empty where the launcher names no job
}

// Alone says that the job has one process only.
func (p Place) Alone() bool { return p.Size <= 1 }

// Flags are the values of the command line; a zero value was not given.
type Flags struct {
	Rank, WorldSize, LocalRank int // Rank and LocalRank count where WorldSize is above 0
	Master                     string
	GPUs                       int // processes to start on this machine
}

const (
	defaultPort = "29400"
	// torchrun keeps a store of its own at MASTER_PORT, and so may others: rank 0 listens a few ports further on.
	besideMaster = 17
)

// Detect takes the first source that is set: flags, torchrun, PET_ (Kubeflow Trainer), JAX_, Slurm, Open MPI and PMI, a
// node's RANK with NPROC_PER_NODE, --gpus. Two sources that disagree are an error; one may count nodes where another
// counts processes, and a process that Spawn or torchrun started still has the variables of its node. --gpus beside a
// launcher that starts one process a machine is how many that one starts. gpus is how many devices this machine has,
// which PET_NPROC_PER_NODE=auto means.
func Detect(f Flags, env func(string) string, gpus func() int) (Place, error) {
	var found []Place
	for _, source := range []func(Flags, variables) (Place, bool, error){flags, torchrun, pet, jax,
		slurm, mpi, nodes, local} {
		p, ok, err := source(f, variables{env, gpus})
		if !ok || err != nil && len(found) > 0 { // the first source is enough, so errors of later ones do not matter
			continue
		}
		if err != nil {
			return Place{}, fmt.Errorf("ranks: %w", err)
		}
		if err := p.check(); err != nil {
			return Place{}, err
		}
		if len(found) > 0 && p.Source != "--gpus" && !found[0].agrees(p) {
			return Place{}, fmt.Errorf("ranks: %s says rank %d of %d, %s rank %d of %d: unset one of them",
				found[0].Source, found[0].Rank, found[0].Size, p.Source, p.Rank, p.Size)
		}
		found = append(found, p)
	}
	if len(found) == 0 {
		return Place{Size: 1, Source: "one process"}, nil
	}
	p := found[0]
	if f.GPUs > 1 && f.WorldSize == 0 && p.Spawn != f.GPUs {
		return Place{}, fmt.Errorf("ranks: --gpus %d, but %s says how many processes a machine has: leave --gpus out",
			f.GPUs, p.Source)
	}
	if job := env(JobVariable); job != "" {
		p.Job = job
	}
	return p, nil
}

func (p Place) check() error {
	if p.Size < 1 || p.Rank < 0 || p.Rank+max(p.Spawn, 1) > p.Size || p.Local < 0 {
		return fmt.Errorf("ranks: %s says rank %d of %d, local rank %d: ranks count from 0 up to the size", p.Source,
			p.Rank, p.Size, p.Local)
	}
	if host, port, err := net.SplitHostPort(p.Master); !p.Alone() && (err != nil || host == "" || port == "") {
		return fmt.Errorf("ranks: %s gives the address %q of rank 0: it must be host:port", p.Source, p.Master)
	}
	return nil
}

// agrees says that q is the same place, or that of its node: one of several machines, or of the processes to start on
// it.
func (p Place) agrees(q Place) bool {
	if q.Spawn > 0 {
		return p.Size == q.Size && p.Rank >= q.Rank && p.Rank < q.Rank+q.Spawn
	}
	if q.Size < 1 || p.Size%q.Size != 0 {
		return false
	}
	return p.Rank/(p.Size/q.Size) == q.Rank
}

func flags(f Flags, _ variables) (Place, bool, error) {
	if f.WorldSize == 0 {
		return Place{}, false, nil
	}
	return Place{Rank: f.Rank, Size: f.WorldSize, Local: f.LocalRank, Master: f.Master, Source: "the command line"}, true,
		nil
}

func torchrun(_ Flags, v variables) (Place, bool, error) {
	if !v.has("RANK", "LOCAL_RANK", "WORLD_SIZE") {
		return Place{}, false, nil
	}
	n, err := v.ints("RANK", "WORLD_SIZE", "LOCAL_RANK")
	master, err2 := v.master(v.env("MASTER_ADDR"), v.env("MASTER_PORT"))
	return Place{Rank: n[0], Size: n[1], Local: n[2], Master: master, Source: "torchrun",
		Job: v.env("TORCHELASTIC_RUN_ID")}, true, first(err, err2)
}

func pet(f Flags, v variables) (Place, bool, error) {
	if !v.has("PET_NNODES", "PET_NODE_RANK") {
		return Place{}, false, nil
	}
	n, err := v.ints("PET_NODE_RANK", "PET_NNODES")
	share, err2 := v.share("PET_NPROC_PER_NODE", f.GPUs)
	host, port := v.env("PET_MASTER_ADDR"), v.env("PET_MASTER_PORT")
	if host == "" {
		host, port = v.env("MASTER_ADDR"), v.env("MASTER_PORT")
	}
	master, err3 := v.master(host, port)
	return node(n[0], n[1], share, master, "PET_"), true, first(err, err2, err3)
}

func jax(_ Flags, v variables) (Place, bool, error) {
	if !v.has("JAX_NUM_PROCESSES", "JAX_PROCESS_ID") {
		return Place{}, false, nil
	}
	n, err := v.ints("JAX_PROCESS_ID", "JAX_NUM_PROCESSES")
	host, port, _ := net.SplitHostPort(v.env("JAX_COORDINATOR_ADDRESS"))
	master, err2 := v.master(host, port)
	return Place{Rank: n[0], Size: n[1], Master: master, Source: "JAX_"}, true, first(err, err2)
}

func slurm(f Flags, v variables) (Place, bool, error) {
	if !v.has("SLURM_PROCID", "SLURM_NTASKS") || v.env("SLURM_NTASKS") == "1" {
		return Place{}, false, nil
	}
	n, err := v.ints("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
	list := v.env("SLURM_JOB_NODELIST")
	if list == "" {
		list = v.env("SLURM_STEP_NODELIST")
	}
	host, err2 := firstHost(list)
	port := 29500
	if id, err := strconv.Atoi(v.env("SLURM_JOB_ID")); err == nil { // two jobs on one node want two ports
		port = 15000 + id%20000
	}
	master := net.JoinHostPort(host, strconv.Itoa(port))
	p := Place{Rank: n[0], Size: n[1], Local: n[2], Master: master, Source: "Slurm", Job: v.env("SLURM_JOB_ID")}
	if f.GPUs > 1 && v.env("SLURM_NNODES") == v.env("SLURM_NTASKS") { // one task a node
		p = node(n[0], n[1], f.GPUs, master, "Slurm")
		p.Job = v.env("SLURM_JOB_ID")
	}
	return p, true, first(err, err2)
}

func mpi(_ Flags, v variables) (Place, bool, error) {
	for _, m := range []struct{ source, rank, size, local string }{
		{"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
		{"PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"},
	} {
		if !v.has(m.rank, m.size) || v.env(m.size) == "1" {
			continue
		}
		n, err := v.ints(m.rank, m.size)
		localRank := n[0]
		var err2 error
		if v.has(m.local) {
			var l []int
			l, err2 = v.ints(m.local)
			localRank = l[0]
		}
		host := v.env("MASTER_ADDR")
		if host == "" && !v.has(m.local) || host == "" && localRank == n[0] { // all ranks seem to be on this machine
			host = "127.0.0.1"
		}
		master, err3 := v.master(host, v.env("MASTER_PORT"))
		return Place{Rank: n[0], Size: n[1], Local: localRank, Master: master, Source: m.source}, true, first(err, err2, err3)
	}
	return Place{}, false, nil
}

// nodes is where RANK and WORLD_SIZE count machines, as PyTorchJob's do. Some of its versions count processes in
// WORLD_SIZE, and set PET_ beside it, which has one meaning.
func nodes(f Flags, v variables) (Place, bool, error) {
	if !v.has("RANK", "WORLD_SIZE") || v.has("LOCAL_RANK") || v.has("PET_NNODES", "PET_NODE_RANK") {
		return Place{}, false, nil
	}
	n, err := v.ints("RANK", "WORLD_SIZE")
	share, err2 := v.share("NPROC_PER_NODE", f.GPUs)
	master, err3 := v.master(v.env("MASTER_ADDR"), v.env("MASTER_PORT"))
	return node(n[0], n[1], share, master, "RANK and WORLD_SIZE of a node"), true, first(err, err2, err3)
}

func local(f Flags, _ variables) (Place, bool, error) {
	if f.GPUs <= 1 {
		return Place{}, false, nil
	}
	return Place{Size: f.GPUs, Spawn: f.GPUs, Master: "127.0.0.1:0", Source: "--gpus"}, true, nil
}

// node is one machine of several with as many processes each.
func node(rank, machines, share int, master, source string) Place {
	if share == 1 {
		return Place{Rank: rank, Size: machines, Master: master, Source: source}
	}
	return Place{Rank: rank * share, Size: machines * share, Spawn: share, Master: master, Source: source}
}

// variables reads the environment.
type variables struct {
	env  func(string) string
	gpus func() int
}

func (v variables) has(names ...string) bool {
	for _, name := range names {
		if v.env(name) == "" {
			return false
		}
	}
	return true
}

func (v variables) ints(names ...string) ([]int, error) {
	out := make([]int, len(names))
	for i, name := range names {
		n, err := strconv.Atoi(v.env(name))
		if err != nil || n < 0 {
			return out, fmt.Errorf("%s must be a number from 0 on, not %q", name, v.env(name))
		}
		out[i] = n
	}
	return out, nil
}

// share is the number of processes of one node: a number, the number of its devices for auto and gpu, or that of --gpus
// where nothing else is given.
func (v variables) share(name string, gpus int) (int, error) {
	switch v.env(name) {
	case "":
		return max(gpus, 1), nil
	case "auto", "gpu":
		return max(v.gpus(), 1), nil
	}
	n, err := v.ints(name)
	if err == nil && n[0] < 1 {
		err = fmt.Errorf("%s must be at least 1", name)
	}
	return max(n[0], 1), err
}

// master is where rank 0 listens for a launcher that keeps port for itself.
func (v variables) master(host, port string) (string, error) {
	if host == "" {
		return "", fmt.Errorf("MASTER_ADDR must name the machine of rank 0")
	}
	if port == "" {
		port = defaultPort
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535-besideMaster {
		return "", fmt.Errorf("MASTER_PORT must be a port up to %d, not %q", 65535-besideMaster, port)
	}
	return net.JoinHostPort(host, strconv.Itoa(n+besideMaster)), nil
}

// firstHost is the first of a Slurm node list, such as gpu[003-007,12],login1.
func firstHost(list string) (string, error) {
	open := strings.IndexAny(list, "[,")
	switch {
	case list == "":
		return "", fmt.Errorf("SLURM_JOB_NODELIST is empty")
	case open < 0:
		return list, nil
	case list[open] == ',':
		return list[:open], nil
	}
	shut := strings.IndexByte(list[open:], ']')
	if shut < 0 {
		return "", fmt.Errorf("SLURM_JOB_NODELIST %q has no closing bracket", list)
	}
	number := list[open+1 : open+shut]
	if end := strings.IndexAny(number, "-,"); end >= 0 {
		number = number[:end]
	}
	rest := list[open+shut+1:]
	if end := strings.IndexByte(rest, ','); end >= 0 {
		rest = rest[:end]
	}
	if strings.ContainsRune(rest, '[') {
		more, err := firstHost(rest)
		return list[:open] + number + more, err
	}
	return list[:open] + number + rest, nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
