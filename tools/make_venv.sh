#!/bin/sh
# Make a virtual environment once, or again when what it should hold has changed.
#
#   tools/make_venv.sh FOLDER "3.11 3.12" REQUIREMENT...   the Python versions in order of choice
set -eu
cd "$(dirname "$0")/.."

folder=$1 versions=$2
shift 2
wanted="$versions $*"
if [ -f "$folder/.holds" ] && [ "$(cat "$folder/.holds")" = "$wanted" ]; then
    exit 0
fi
# shellcheck disable=SC2086  # one word a version
python=$(tools/find_python.sh $versions)
echo "Making $folder with $python ..."
"$python" -m venv --clear "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
echo "$wanted" >"$folder/.holds"
