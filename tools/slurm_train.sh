#!/usr/bin/env bash
# Trains a config on a Slurm cluster.
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
last=WORK_DIR option=(--work-dir)
note=$'\nGive --resume, and a job that was preempted continues when it is requeued.'
source "$tools/slurm_run.sh"
