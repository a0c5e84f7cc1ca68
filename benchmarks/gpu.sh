#!/bin/bash
# Everything that only a GPU shows, in at most SECONDS (9 minutes): is each kernel right bit by bit, how fast is it
# beside a copy and SpikingJelly's Triton kernel, how fast are whole networks, and then the longest training that
# fits. Needs torch, CuPy and nvcc, no network; PACK is what `benchmarks/gpu.py pack` wrote.
#
#   bash benchmarks/gpu.sh PACK OUT [SECONDS] [PLAN]
set -uo pipefail
cd "$(dirname "$0")/.."
pack=$1 out=$2 seconds=${3:-540} plan=${4:-benchmarks/configs/snn_tiny_yolov3_coco.json}
python=${PYTHON:-python3}
began=$(date +%s)
left() { echo $((seconds - $(date +%s) + began - ${1:-0})); }
mkdir -p "$out"
out=$(realpath "$out") pack=$(realpath "$pack")

site=$(mktemp -d)
"$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$pack"/wheels/*.whl || exit 1
export PYTHONPATH=$site:$PWD PYTHONUNBUFFERED=1

failed=0
step() {  # name, seconds, command: a part that fails or takes too long does not stop the others
    local name=$1 limit=$2
    shift 2
    [ "$limit" -gt "$(left 5)" ] && limit=$(left 5)
    if [ "$limit" -lt 1 ]; then echo "$name: no time left"; failed=1; return; fi
    echo "== $name, at most $limit s"
    timeout "$limit" "$@" > "$out/$name.log" 2>&1
    local code=$?
    tail -n 3 "$out/$name.log" | cut -c 1-200
    if [ $code -ne 0 ]; then echo "$name: exit code $code, see $out/$name.log"; failed=1; fi
}
device=$("$python" -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')
step tests 120 "$python" -m pytest -q -p no:cacheprovider -n "$(nproc)" tests/test_gpu.py tests/kernels tests/layers
step kernels 60 "$python" benchmarks/kernels.py --device "$device" --batch 32 --repeats 5 \
    --results "$out/kernels.json" --figure "$out/kernels.png"
step speed 90 "$python" benchmarks/speed.py --device "$device" --repeats 5 --parts strided shipped extras \
    --results "$out/speed.json" --figure "$out/speed.png"
step train "$seconds" "$python" benchmarks/gpu.py train --data "$pack" --plan "$plan" --output "$out/train" \
    --seconds "$(left 30)"
echo "$(left) of $seconds s left; results are in $out"
exit $failed
