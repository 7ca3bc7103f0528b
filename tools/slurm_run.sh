# Sourced by slurm_train.sh and slurm_test.sh. The last of four arguments has
# the name $last and goes to the tool behind the words of $option.
[[ ${last:-} ]] || { echo 'run slurm_train.sh or slurm_test.sh' >&2; exit 2; }
script=$(basename "$0")
tool=${script#slurm_}
tool=${tool%.sh}.py

usage() {
  cat >&2 <<USAGE
usage: $script PARTITION JOB_NAME CONFIG $last [$tool's options]
$note
  GPUS           number of GPUs, one task each     (8)
  GPUS_PER_NODE  GPUs per node                     (8, at most GPUS)
  CPUS_PER_TASK  CPU cores per task                (5)
  MASTER_PORT    port on the first node            (by the job's number)
  SRUN_ARGS      further arguments of srun, separated by blanks
USAGE
  exit 2
}

[[ $# -ge 4 ]] || usage
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
read -r -a srun_args <<<"${SRUN_ARGS:-}"

exec srun \
  --partition="$1" \
  --job-name="$2" \
  --gres=gpu:"$gpus_per_node" \
  --ntasks="$gpus" \
  --ntasks-per-node="$gpus_per_node" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 \
  ${srun_args[@]+"${srun_args[@]}"} \
  python -u "$tools/$tool" "$3" ${option[@]+"${option[@]}"} "$4" \
  --launcher slurm "${@:5}"
