#!/usr/bin/env bash
# Trains a config with several processes: one per GPU, or on CPU without any.
set -euo pipefail

usage() {
  cat >&2 <<'USAGE'
usage: dist_train.sh CONFIG GPUS [train.py's options]

GPUS is the number of processes per machine. Several machines: run this on
each of them, with the same command, and set
  NNODES       number of machines                 (1)
  NODE_RANK    number of this machine, from 0     (0)
  MASTER_ADDR  address of machine 0               (needed for several)
  PORT         free port on machine 0             (any on one machine, 29500)
USAGE
  exit 2
}

[[ $# -ge 2 && $2 =~ ^[1-9][0-9]*$ ]] || usage
config=$1
gpus=$2
shift 2
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if ! command -v torchrun >/dev/null; then
  echo 'dist_train.sh: torchrun is not on the PATH; activate the environment' \
    'first (source .venv/bin/activate)' >&2
  exit 127
fi

nodes=${NNODES:-1}
if [[ $nodes != 1 && -z ${MASTER_ADDR:-} ]]; then
  echo "dist_train.sh: NNODES=$nodes needs MASTER_ADDR, the address of machine 0" \
    >&2
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
  "$tools/train.py" "$config" --launcher pytorch "$@"
