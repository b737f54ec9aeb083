package ranks

import (
	"strings"
	"testing"
)

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags Flags
		env   map[string]string
		want  Place
		err   string
	}{
		{name: "nothing", want: Place{Size: 1, Source: "one process"}},
		{name: "flags", flags: Flags{Rank: 1, WorldSize: 2, LocalRank: 1, Master: "a:1"},
			env:  map[string]string{JobVariable: "x"},
			want: Place{Rank: 1, Size: 2, Local: 1, Master: "a:1", Source: "the command line", Job: "x"}},
		{name: "torchrun", env: map[string]string{"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "n0",
			"MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "j"},
			want: Place{Rank: 3, Size: 4, Local: 1, Master: "n0:29517", Source: "torchrun", Job: "j"}},
		{name: "torchrun under srun, one task a node", env: map[string]string{"RANK": "3", "WORLD_SIZE": "4",
			"LOCAL_RANK": "1", "MASTER_ADDR": "n0", "MASTER_PORT": "29500",
			"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "n[0-1]"},
			want: Place{Rank: 3, Size: 4, Local: 1, Master: "n0:29517", Source: "torchrun"}},
		{name: "torchrun against Slurm", env: map[string]string{"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1",
			"MASTER_ADDR":  "n0",
			"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "n[0-1]"},
			err: "torchrun says rank 3 of 4, Slurm rank 0 of 4"},
		{name: "Kubeflow Trainer, two GPUs a node", env: map[string]string{"PET_NNODES": "2", "PET_NODE_RANK": "1",
			"PET_NPROC_PER_NODE": "auto", "PET_MASTER_ADDR": "n0", "PET_MASTER_PORT": "29500"},
			want: Place{Rank: 2, Size: 4, Spawn: 2, Master: "n0:29517", Source: "PET_"}},
		{name: "Kubeflow Trainer, one", env: map[string]string{"PET_NNODES": "2", "PET_NODE_RANK": "1",
			"PET_NPROC_PER_NODE": "1", "PET_MASTER_ADDR": "n0"},
			want: Place{Rank: 1, Size: 2, Master: "n0:29417", Source: "PET_"}},
		{name: "JAX", env: map[string]string{"JAX_NUM_PROCESSES": "8", "JAX_PROCESS_ID": "7",
			"JAX_COORDINATOR_ADDRESS": "n0:29500"},
			want: Place{Rank: 7, Size: 8, Master: "n0:29517", Source: "JAX_"}},
		{name: "Slurm", env: map[string]string{"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1",
			"SLURM_JOB_NODELIST": "gpu[003-006,12]", "SLURM_JOB_ID": "20007"},
			want: Place{Rank: 5, Size: 8, Local: 1, Master: "gpu003:15007", Source: "Slurm", Job: "20007"}},
		{name: "Slurm of one task", env: map[string]string{"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0",
			"SLURM_JOB_NODELIST": "n1"}, want: Place{Size: 1, Source: "one process"}},
		{name: "Open MPI on one machine", env: map[string]string{"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2",
			"OMPI_COMM_WORLD_LOCAL_RANK": "1"},
			want: Place{Rank: 1, Size: 2, Local: 1, Master: "127.0.0.1:29417", Source: "Open MPI"}},
		{name: "Open MPI on a second machine", env: map[string]string{"OMPI_COMM_WORLD_RANK": "3",
			"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
			err: "MASTER_ADDR must name the machine of rank 0"},
		{name: "PMI", env: map[string]string{"PMI_RANK": "1", "PMI_SIZE": "2", "MASTER_ADDR": "n0"},
			want: Place{Rank: 1, Size: 2, Local: 1, Master: "n0:29417", Source: "PMI"}},
		{name: "PyTorchJob", env: map[string]string{"RANK": "1", "WORLD_SIZE": "2", "NPROC_PER_NODE": "4",
			"MASTER_ADDR": "n0", "MASTER_PORT": "23456"},
			want: Place{Rank: 4, Size: 8, Spawn: 4, Master: "n0:23473", Source: "RANK and WORLD_SIZE of a node"}},
		{name: "a process that PET_'s node started", flags: Flags{Rank: 1, WorldSize: 4, LocalRank: 1, Master: "127.0.0.1:9"},
			env:  map[string]string{"PET_NNODES": "1", "PET_NODE_RANK": "0", "PET_NPROC_PER_NODE": "4", "PET_MASTER_ADDR": "n0"},
			want: Place{Rank: 1, Size: 4, Local: 1, Master: "127.0.0.1:9", Source: "the command line"}},
		{name: "a process that PET_'s second node started", flags: Flags{Rank: 7, WorldSize: 8, LocalRank: 3, Master: "n0:9"},
			env:  map[string]string{"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_NPROC_PER_NODE": "4", "PET_MASTER_ADDR": "n0"},
			want: Place{Rank: 7, Size: 8, Local: 3, Master: "n0:9", Source: "the command line"}},
		{name: "a process of another node than PET_ says", flags: Flags{Rank: 1, WorldSize: 8, LocalRank: 1, Master: "n0:9"},
			env: map[string]string{"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_NPROC_PER_NODE": "4", "PET_MASTER_ADDR": "n0"},
			err: "the command line says rank 1 of 8, PET_ rank 4 of 8"},
		{name: "a process that PyTorchJob's second node started",
			flags: Flags{Rank: 5, WorldSize: 8, LocalRank: 1, Master: "n0:9"},
			env: map[string]string{"RANK": "1", "WORLD_SIZE": "2", "NPROC_PER_NODE": "4", "MASTER_ADDR": "n0",
				"MASTER_PORT": "23456"},
			want: Place{Rank: 5, Size: 8, Local: 1, Master: "n0:9", Source: "the command line"}},
		{name: "torchrun in a pod of Kubeflow Trainer", env: map[string]string{"RANK": "5", "WORLD_SIZE": "8",
			"LOCAL_RANK": "1", "MASTER_ADDR": "n0", "MASTER_PORT": "29500",
			"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_NPROC_PER_NODE": "4", "PET_RDZV_ENDPOINT": "n0:29500"},
			want: Place{Rank: 5, Size: 8, Local: 1, Master: "n0:29517", Source: "torchrun"}},
		{name: "PyTorchJob that counts processes, beside PET_", env: map[string]string{"RANK": "1", "WORLD_SIZE": "8",
			"MASTER_ADDR": "n0", "MASTER_PORT": "23456",
			"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_NPROC_PER_NODE": "4"},
			want: Place{Rank: 4, Size: 8, Spawn: 4, Master: "n0:23473", Source: "PET_"}},
		{name: "--gpus beside PET_ of one process a node", flags: Flags{GPUs: 4},
			env:  map[string]string{"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "n0"},
			want: Place{Rank: 4, Size: 8, Spawn: 4, Master: "n0:29417", Source: "PET_"}},
		{name: "--gpus under Slurm, one task a node", flags: Flags{GPUs: 4},
			env: map[string]string{"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_NNODES": "2",
				"SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "n[0-1]", "SLURM_JOB_ID": "1"},
			want: Place{Rank: 4, Size: 8, Spawn: 4, Master: "n0:15001", Source: "Slurm", Job: "1"}},
		{name: "--gpus under Slurm, two tasks a node", flags: Flags{GPUs: 2},
			env: map[string]string{"SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURM_NNODES": "2",
				"SLURM_LOCALID": "1", "SLURM_JOB_NODELIST": "n[0-1]"},
			err: "--gpus 2, but Slurm says how many processes a machine has: leave --gpus out"},
		{name: "--gpus beside torchrun", flags: Flags{GPUs: 2}, env: map[string]string{"RANK": "1", "WORLD_SIZE": "2",
			"LOCAL_RANK": "1", "MASTER_ADDR": "n0"},
			err: "--gpus 2, but torchrun says"},
		{name: "local", flags: Flags{GPUs: 2}, want: Place{Size: 2, Spawn: 2, Master: "127.0.0.1:0", Source: "--gpus"}},
		{name: "a child of local", flags: Flags{GPUs: 2, WorldSize: 2, Rank: 1, LocalRank: 1, Master: "127.0.0.1:9"},
			want: Place{Rank: 1, Size: 2, Local: 1, Master: "127.0.0.1:9", Source: "the command line"}},
		{name: "a rank too high", env: map[string]string{"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2",
			"JAX_COORDINATOR_ADDRESS": "n0:1"}, err: "JAX_ says rank 2 of 2"},
		{name: "no number", env: map[string]string{"RANK": "x", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "n"},
			err: `RANK must be a number from 0 on, not "x"`},
		{name: "no port", env: map[string]string{"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "n",
			"MASTER_PORT": "70000"}, err: "MASTER_PORT must be a port"},
		{name: "no address", flags: Flags{WorldSize: 2}, err: "must be host:port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Detect(c.flags, func(name string) string { return c.env[name] }, func() int { return 2 })
			switch {
			case c.err == "" && (err != nil || got != c.want):
				t.Errorf("%+v, %v; want %+v", got, err, c.want)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

func FuzzFirstHost(f *testing.F) {
	for list, want := range map[string]string{
		"n1": "n1", "n1,n2": "n1", "n[1-3]": "n1", "n[07,9]-ib": "n07-ib", "a[1-2]b[3-4]": "a1b3", "gpu-[1,4],x[3]": "gpu-1",
		"n[1-3": "", "": "",
	} {
		got, err := firstHost(list)
		if got != want && err == nil || want == "" && err == nil {
			f.Errorf("%q: %q, %v; want %q", list, got, err, want)
		}
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		if host, err := firstHost(list); err == nil && strings.ContainsAny(host, "[,") {
			t.Errorf("%q: %q", list, host)
		}
	})
}
