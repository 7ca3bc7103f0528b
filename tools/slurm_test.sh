#!/usr/bin/env bash
# Tests a checkpoint on a Slurm cluster.
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
last=CHECKPOINT option=() note=''
source "$tools/slurm_run.sh"
