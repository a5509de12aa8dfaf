#!/bin/sh
# Run a command with the environment variables that choose a Keras stack.
#
#   tools/with_stack.sh k3-jax COMMAND...
set -eu

case $1 in
    k2 | k3-tf) engine=tensorflow ;;
    tfk) engine=tensorflow TF_USE_LEGACY_KERAS=1 && export TF_USE_LEGACY_KERAS ;;
    k3-jax) engine=jax ;;
    k3-torch) engine=torch ;;
    *) echo "no stack is called $1" >&2 && exit 2 ;;
esac
shift
KERAS_BACKEND=$engine TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3} exec "$@"
