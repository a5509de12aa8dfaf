#!/bin/sh
# Run a command with the environment variables that choose a Keras stack.
#
#   tools/with_stack.sh k3-jax COMMAND...
set -eu

case $1 in
    k2 | k3-tf) backend=tensorflow ;;
    tfk) backend=tensorflow TF_USE_LEGACY_KERAS=1 && export TF_USE_LEGACY_KERAS ;;
    k3-jax) backend=jax ;;
    k3-torch) backend=torch ;;
    *) echo "no stack is called $1" >&2 && exit 2 ;;
esac
shift
KERAS_BACKEND=$backend TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3} exec "$@"
