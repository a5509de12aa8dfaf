#!/bin/sh
# Run tests or benchmarks of one stack on whatever device is there: a GPU, else the CPU.
#
#   tools/on_device.sh k3-jax test [pytest arguments]
#   tools/on_device.sh k3-torch bench [arguments of benchmarks/device.py]
#
# The Python is $PYTHON, or that of .tox/STACK where `make test STACK=...` has made it, or python3.
# Results are compared bit for bit, so kernels are deterministic and products are not rounded
# to TF32.
set -eu
cd "$(dirname "$0")/.."
stack=$1 what=$2
shift 2

case $stack in
    k3-jax | k3-torch) ;;
    *) echo "STACK is k3-jax or k3-torch here, not '$stack'" >&2 && exit 2 ;;
esac
if [ -z "${PYTHON:-}" ]; then
    PYTHON=.tox/$stack/bin/python
    [ -x "$PYTHON" ] || PYTHON=python3
fi

export BNGUARD_STACK="$stack" PYTHONHASHSEED=0 MPLBACKEND=Agg
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
# tests/stack.py hides every device unless this is set; "0" names none where there is none.
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES-0}"
export XLA_PYTHON_CLIENT_PREALLOCATE=false

if [ "$what" = bench ]; then
    exec "$PYTHON" benchmarks/device.py "$@"
fi

export XLA_FLAGS="--xla_gpu_deterministic_ops=true ${XLA_FLAGS:-}"
export JAX_DEFAULT_MATMUL_PRECISION=highest
export CUBLAS_WORKSPACE_CONFIG=:4096:8 NVIDIA_TF32_OVERRIDE=0 BNGUARD_DETERMINISTIC=1
if [ $# -eq 0 ]; then
    set -- tests/contract tests/guarantees tests/scenarios/phases tests/scenarios/data \
        tests/unit/phases tests/unit/data
fi
exec "$PYTHON" -m pytest -q -m "not slow" --stack-only "$@"
