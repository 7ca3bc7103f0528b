#!/usr/bin/env bash
# What a GPU does with this package, in about ten minutes: the tests marked
# gpu, speed, memory, views on the device, torch.compile, NCCL.
#
#   tools/analysis_tools/gpu_check.sh
#   tools/analysis_tools/gpu_check.sh --peak 989 --batch 128 --out FOLDER
#   tools/analysis_tools/gpu_check.sh --device cpu --tiny   # only that it runs
#
# Run it from the root of a checkout. PYTHON names the interpreter. Ends with
# a table for docs/performance.md. What fails is named, and the rest goes on.
set -uo pipefail

device=cuda batch=256 peak='' tiny='' out=work_dirs/gpu_check
usage() {
  echo "usage: $0 [--device DEVICE] [--batch N] [--peak TFLOPS] [--tiny]" \
    '[--out FOLDER]'
}
while [ $# -gt 0 ]; do
  case "$1" in
    --device) device=${2:?--device needs a value}; shift 2 ;;
    --batch) batch=${2:?--batch needs a value}; shift 2 ;;
    --peak) peak=${2:?--peak needs a value}; shift 2 ;;
    --out) out=${2:?--out needs a value}; shift 2 ;;
    --tiny) tiny=yes; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
done
python=${PYTHON:-python}
tools=tools/analysis_tools
[ -f "$tools/gpu_check.sh" ] || {
  echo 'Run it from the root of a checkout.' >&2; exit 2; }
mkdir -p "$out"

# Dense bfloat16 operations per second of the data sheets, in 10^12.
if [ -z "$peak" ] && [ "${device%%:*}" = cuda ]; then
  name=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
  # Whole words: an RTX A1000 is no A100.
  case " ${name//-/ } " in
    *" H100 "*PCIe*) peak=756 ;; *" H100 "* | *" H200 "* | *" GH200 "*) peak=989 ;;
    *" A100 "*) peak=312 ;; *" A40 "*) peak=150 ;; *" A10 "* | *" A10G "*) peak=125 ;;
    *" L40S "*) peak=362 ;; *" L4 "*) peak=121 ;; *" 4090 "*) peak=165 ;;
    *) echo "peak of $name is not known: give it with --peak" >&2 ;;
  esac
fi
peak=${peak:-0}

# Sizes: of CMIM, MSMAE and GiMP.
cmim=(--batch-size "$batch" --compile) msmae=(--batch-size "$batch") gimp=() rounds=()
if [ -n "$tiny" ]; then
  cmim=(--batch-size 2 --size 64 --skip-spark)
  msmae=(--batch-size 2 --size 64 --patch-size 8 --arch deit-tiny)
  gimp=(--step-batch 4 --step-length 64 --in-dims 16 --embed-dims 16
    --heads 2 --landmarks 16 --genes 1920 --step-rounds 1 --tokens 64)
  rounds=(--rounds 1)
fi

rows=() shown=() failed=0
# step NAME SECONDS COMMAND...: run it, keep its log, note how it ended. At
# most so long, unless sizes are tiny.
step() {
  local name=$1 limit=$2 log status begin=$SECONDS
  shift 2
  log=$out/${name//[ ,]/_}.log
  [ -z "$tiny" ] || limit=0
  echo "== $name: $*"
  timeout "$limit" "$@" > "$log" 2>&1
  status=$?
  if [ $status -eq 0 ]; then
    rows+=("| $name | ran in $((SECONDS - begin)) s |")
  else
    failed=1
    tail -n 5 "$log"
    rows+=("| $name | **failed** with $status, see $log |")
  fi
  return $status
}
# bench NAME SECONDS SCRIPT ARGUMENTS...: a benchmark; its figures are shown.
bench() {
  local name=$1 limit=$2 script=$3 json=$out/${1// /_}.json
  shift 3
  rm -f "$json"
  step "$name" "$limit" "$python" "$tools/$script" --device "$device" \
    "${rounds[@]}" --json "$json" "$@" && shown+=("$json")
}

mapfile -t files < <(grep -rlE 'mark\.gpu\b' tests | sort)
if step 'tests marked gpu' 180 "$python" -m pytest -m gpu -q \
  -p no:cacheprovider "${files[@]}"; then
  rows[-1]="| tests marked gpu | $(tail -n 1 "$out/tests_marked_gpu.log") |"
fi
bench 'CMIM and views' 180 benchmark_cmim.py --precisions bfloat16 \
  --peak-tflops "$peak" "${cmim[@]}"
bench 'MSMAE' 180 benchmark_msmae.py --bf16 --peak-tflops "$peak" \
  "${msmae[@]}"
bench 'GiMP' 120 benchmark_gimp.py --parts step layers --amp "${gimp[@]}"

data=$out/data
step 'drawn tiles' 60 "$python" -c "from mmmedmask.phantoms \
import glands; glands.write_tissue_tiles('$data/train', 96, 32)"
config=configs/cmim/demo/cmim_resnet18_1xb32-coslr-12e_ihc-tiles.py
backend=NCCL
[ "${device%%:*}" = cuda ] || backend=gloo
step "training on $backend, one process" 120 "$python" \
  -m torch.distributed.run --standalone --nproc-per-node 1 tools/train.py \
  "$config" --launcher pytorch --work-dir "$out/run" --cfg-options \
  "train_dataloader.dataset.data_root=$data/train" train_cfg.max_epochs=2 \
  param_scheduler.0.end=2 \
  default_hooks.probe=None default_hooks.loss_floors=None

echo
echo "| on $device, batch $batch, peak $peak TFLOP/s${tiny:+, tiny sizes} | |"
echo '| --- | --- |'
printf '%s\n' "${rows[@]}"
if [ ${#shown[@]} -gt 0 ]; then
  echo
  "$python" "$tools/run_benchmarks.py" --show "${shown[@]}"
fi
exit $failed
