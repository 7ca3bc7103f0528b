#!/usr/bin/env bash
# Trains a config with several processes: one per GPU, or on CPU without any.
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
files=(CONFIG)
source "$tools/dist_run.sh"
