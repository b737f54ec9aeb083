#!/bin/bash
# Eight GPUs of two machines: sbatch docs/examples/slurm.sh run.yaml runs/first
#SBATCH --job-name=headroom
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --signal=TERM@120
#SBATCH --requeue
srun --kill-on-bad-exit=1 bin/headroom train "$1" --out "$2" --set train.device=cuda --resume
