"""The only part that imports or knows a framework: one Keras on one backend in five interfaces.

Start at `registry.backend_for(model)`. `docs/backends.md` lists what a new backend has to write.
Everything private that this package uses of a Keras is in this folder, and each such name has a
test in `tests/contract/` that fails when Keras renames it.
"""
