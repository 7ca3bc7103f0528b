#!/usr/bin/env bash
# Tests a checkpoint on a Slurm cluster.
set -euo pipefail

usage() {
  cat >&2 <<'USAGE'
usage: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [test.py's options]

  GPUS           number of GPUs, one task each     (8)
  GPUS_PER_NODE  GPUs per node                     (8, at most GPUS)
  CPUS_PER_TASK  CPU cores per task                (5)
  SRUN_ARGS      further arguments of srun, separated by blanks
USAGE
  exit 2
}

[[ $# -ge 4 ]] || usage
partition=$1
job_name=$2
config=$3
checkpoint=$4
shift 4
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
read -r -a srun_args <<<"${SRUN_ARGS:-}"

exec srun \
  --partition="$partition" \
  --job-name="$job_name" \
  --gres=gpu:"$gpus_per_node" \
  --ntasks="$gpus" \
  --ntasks-per-node="$gpus_per_node" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 \
  ${srun_args[@]+"${srun_args[@]}"} \
  python -u "$tools/test.py" "$config" "$checkpoint" \
  --launcher slurm "$@"
