#!/bin/sh
# Run every environment of tox.ini, or those named, two at a time.
#
#   tools/run_tox.sh             all
#   tools/run_tox.sh k3-jax      one; its output is shown as it comes
#   tools/run_tox.sh k2 tfk -- -m slow tests/scenarios/phases      what is after -- goes to pytest
set -eu
cd "$(dirname "$0")/.."

# Let tox find the Pythons that are installed but not on PATH.
found=$(tools/find_python.sh --all 3.9 3.10 3.11 3.12 3.13)
pythons=$(echo "$found" | cut -d ' ' -f 2-)
has() { echo "$found" | grep -q "^$1 "; }

tox() {
    command=$1
    shift
    # shellcheck disable=SC2086  # one word a Python
    .env-tools/bin/tox "$command" --discover $pythons "$@"
}

need_old_python() {
    if ! has 3.11 && ! has 3.10 && ! has 3.9; then
        echo "The stack k2 (TensorFlow 2.15) needs Python 3.9, 3.10 or 3.11, and none was found" >&2
        echo "on PATH or under pyenv. Install one, or run the others: make test STACK=k3-tf" >&2
        exit 1
    fi
}

named=
while [ $# -gt 0 ] && [ "$1" != "--" ]; do
    named=${named:+$named,}$1
    shift
done
if [ -n "$named" ]; then
    case ",$named," in *,k2,*) need_old_python ;; esac
    tox run -e "$named" "$@"
    exit
fi

need_old_python
# The framework-free tests also run on the oldest and newest Python this package supports.
envs=dist,lint,docs,core
for version in 3.9 3.13; do
    if has $version; then
        envs=$envs,core-py$(echo $version | tr -d .)
    else
        echo "Python $version was not found: core is not run on it."
    fi
done
# The longest first, so that both lanes end together.
tox run-parallel --parallel 2 --parallel-no-spinner -e "tfk,k2,k3-tf,k3-jax,k3-torch,$envs"
