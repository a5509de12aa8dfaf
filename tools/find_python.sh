#!/bin/sh
# Print the first Python of the versions asked for that can make a virtual environment.
#
#   tools/find_python.sh 3.11 3.12 ...     searches PATH, then pyenv's versions
#   tools/find_python.sh --all 3.9 ...     prints one line for each version found: 3.9 /path/python
set -eu

usable() {
    "$1" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" \
        >/dev/null 2>&1
}

# The interpreter itself, not a shim or a link to it: those may resolve otherwise elsewhere.
find_one() {
    for python in "python$1" python3 python \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/"python$1"; do
        if command -v "$python" >/dev/null 2>&1 && usable "$python" "$1"; then
            "$python" -c "import sys; print(sys.executable)"
            return 0
        fi
    done
    return 1
}

if [ "${1:-}" = "--all" ]; then
    shift
    for version in "$@"; do
        if found=$(find_one "$version"); then
            echo "$version $found"
        fi
    done
    exit 0
fi

for version in "$@"; do
    if find_one "$version"; then
        exit 0
    fi
done
echo "No Python of the versions $* was found on PATH or under pyenv." >&2
exit 1
