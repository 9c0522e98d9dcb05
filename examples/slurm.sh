#!/bin/bash
# A study on the nodes of one Slurm job, as a Ray cluster that lives as long as the job:
#
#     sbatch examples/slurm.sh depth --protocol cifar10 --gpus-per-trial 0.5
#
# What follows the script is given to `ablate run`. Set the folder of this repository and one for the runs; all nodes must
# see both, and the data. A job that runs out of time loses nothing: submit it again, and it goes on from there.
#SBATCH --job-name=ablations
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
set -euo pipefail

ABLATIONS=${ABLATIONS:-$SLURM_SUBMIT_DIR}
export ABLATE_RUNS=${ABLATE_RUNS:-$ABLATIONS/runs} ABLATE_DATA_ROOT=${ABLATE_DATA_ROOT:-$ABLATIONS/data}
export PATH=$ABLATIONS/.venv/bin:$PATH

# Other users share the network: whoever joins must know a token, which only this user can read.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/ablations-$SLURM_JOB_ID
mkdir -p "$HOME/.ray"
(umask 077; python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH")
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"; kill $(jobs -p) 2>/dev/null' EXIT

GPUS=${SLURM_GPUS_ON_NODE:-0}
PORT=$((20000 + SLURM_JOB_ID % 10000))
nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
head=$(srun --nodes=1 --ntasks=1 -w "${nodes[0]}" hostname --ip-address | cut -d ' ' -f 1)
# Called in the background alone: srun takes the place of the subshell, so that it is what the trap ends.
on() { exec srun --nodes=1 --ntasks=1 --overlap -w "$1" ray start --block --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$GPUS" "${@:2}"; }

on "${nodes[0]}" --head --node-ip-address="$head" --port="$PORT" --include-dashboard=false &
until python -c "import socket; socket.create_connection(('$head', $PORT), 1)" 2>/dev/null; do sleep 1; done
for node in "${nodes[@]:1}"; do on "$node" --address="$head:$PORT" & done
sleep 15  # the study asks all nodes as it starts; those that join later help as well, where they are of the same kind

ablate run "$@" --ray-address "$head:$PORT" --report
