# Sourced by dist_train.sh and dist_test.sh, whose files are named in $files.
[[ ${files:-} ]] || { echo 'run dist_train.sh or dist_test.sh' >&2; exit 2; }
script=$(basename "$0")
tool=${script#dist_}
tool=${tool%.sh}.py

usage() {
  cat >&2 <<USAGE
usage: $script ${files[*]} GPUS [$tool's options]

GPUS is the number of processes per machine. Several machines: run this on
each of them, with the same command, and set
  NNODES       number of machines                 (1)
  NODE_RANK    number of this machine, from 0     (0)
  MASTER_ADDR  address of machine 0               (needed for several)
  PORT         free port on machine 0             (any on one machine, 29500)
USAGE
  exit 2
}

[[ $# -gt ${#files[@]} ]] || usage
given=("${@:1:${#files[@]}}")
shift ${#files[@]}
gpus=$1
shift
[[ $gpus =~ ^[1-9][0-9]*$ ]] || usage

if ! command -v torchrun >/dev/null; then
  echo "$script: torchrun is not on the PATH; activate the environment first" \
    '(source .venv/bin/activate)' >&2
  exit 127
fi

nodes=${NNODES:-1}
if [[ $nodes != 1 && -z ${MASTER_ADDR:-} ]]; then
  echo "$script: NNODES=$nodes needs MASTER_ADDR, the address of machine 0" >&2
  exit 2
fi
if [[ $nodes == 1 && -z ${PORT:-} && -z ${MASTER_ADDR:-} ]]; then
  # Finds a free port, so that two runs can share a machine.
  where=(--standalone)
else
  where=(--nnodes="$nodes" --node-rank="${NODE_RANK:-0}"
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}")
fi

exec torchrun "${where[@]}" --nproc-per-node="$gpus" \
  "$tools/$tool" "${given[@]}" --launcher pytorch "$@"
