"""The values interface: reading bit for bit, as copies."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from tests.builders.models import (
    BN,
)
from tests.contract.models import BACKEND_OF, built
from tests.stack import BACKEND


def test_values_are_read_bit_for_bit_and_as_copies():
    layer = built(BN())
    values = np.array([[1, np.nan, -0.0], [3, 1e-42, np.inf], [5, 6, 7], [8, 9, 1e38]], np.float32)
    layer.set_weights([values[2], values[3], values[0], values[1]])
    stored = [w.tobytes() for w in layer.get_weights()]
    (handle,) = BACKEND_OF.graph.handles(layer, "bn")
    state, vectors = BACKEND_OF.values.state(handle), handle.vectors()
    found = [state.gamma, state.beta, state.mean, state.variance]
    assert [v.tobytes() for v in found] == stored
    flat = BACKEND_OF.values.flat(vectors)
    assert flat.tobytes() == b"".join([stored[2], stored[3], stored[0], stored[1]])
    for array in (*found, flat, BACKEND_OF.values.to_numpy(vectors[0])):
        array[...] = 0
    assert [w.tobytes() for w in layer.get_weights()] == stored
    state = BACKEND_OF.values.state(handle)
    layer.set_weights([np.zeros(3, np.float32)] * 4)
    assert state.mean.tobytes() == stored[2]
    assert BACKEND_OF.values.state(handle, affine=False).gamma is None
    assert len(BACKEND_OF.values.flat([])) == 0


def test_a_reader_sees_what_is_there_each_time_and_keeps_nothing():
    layer = built(BN())
    (handle,) = BACKEND_OF.graph.handles(layer, "bn")
    mean, variance, gamma, _ = handle.vectors()
    read = BACKEND_OF.values.reader([variance, mean, gamma])
    before = read()
    layer.set_weights([np.full(3, value, np.float32) for value in (9, 0, 5, 7)])
    assert before.tolist() == [1, 1, 1, 0, 0, 0, 1, 1, 1]
    assert read().tolist() == [7, 7, 7, 5, 5, 5, 9, 9, 9]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes_are_read_too(dtype):
    if BACKEND == "jax" and dtype == "float64":
        dtype = "float32"  # JAX has no float64 unless it is configured.
    layer = built(BN(dtype=dtype))
    (handle,) = BACKEND_OF.graph.handles(layer, "bn")
    mean, variance, _, _ = handle.vectors()
    assert BACKEND_OF.values.dtype_of(mean) in (dtype, "float32")
    assert BACKEND_OF.values.flat([mean, variance]).astype(float).tolist() == [0, 0, 0, 1, 1, 1]
    assert BACKEND_OF.values.state(handle).variance.astype(float).tolist() == [1, 1, 1]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_states_of_several_layers_are_those_of_each_bit_for_bit(dtype):
    layers = [built(BN(dtype=dtype)), built(BN(scale=False)), built(BN(center=False))]
    for i, layer in enumerate(layers):
        layer.set_weights([w + i + 0.1 for w in layer.get_weights()])
    handles = [h for i, layer in enumerate(layers) for h in BACKEND_OF.graph.handles(layer, f"{i}")]
    values = BACKEND_OF.values
    for affine in (True, False):
        for state, handle in zip(values.states(handles, affine), handles):
            for found, variable in zip(astuple(state), handle.vectors()):
                if variable is None or (not affine and found is None):
                    assert found is None
                    continue
                expected = values.to_numpy(variable)
                assert (found.tobytes(), found.dtype) == (expected.tobytes(), expected.dtype)
                assert found.shape == expected.shape
                found[...] = 9
    assert not any(np.any(w == 9) for layer in layers for w in layer.get_weights())
    assert values.states([]) == []


if BACKEND == "jax":

    def test_arrays_of_a_device_are_joined_bit_for_bit_by_copies_and_by_the_gather(monkeypatch):
        import jax.numpy as jnp

        from keras_bnguard.backends.values import jax_arrays

        bits = np.array([0x7FC00001, 0xFFC00000, 0x80000000, 1, 0x7F800000, 3], np.uint32)
        parts = np.split(bits.view(np.float32), [1, 3])
        values = [jnp.asarray(part) for part in parts]
        gathers = []
        gather = jax_arrays._gather()
        monkeypatch.setattr(jax_arrays, "_from_buffers", lambda values: None)
        monkeypatch.setattr(
            jax_arrays, "_gather", lambda: lambda given: gathers.append(1) or gather(given)
        )
        for read in range(jax_arrays.READS_BEFORE_GATHER + 2):
            assert jax_arrays.jax_joined(values).tobytes() == bits.tobytes()
            assert len(gathers) == max(0, read + 1 - jax_arrays.READS_BEFORE_GATHER)

    def test_arrays_of_several_dtypes_are_joined_without_a_gather():
        import jax.numpy as jnp

        from keras_bnguard.backends.values.jax_arrays import jax_joined

        values = [jnp.asarray([1.5], jnp.bfloat16), jnp.asarray([[2.5]], jnp.float32)]
        for _ in range(4):
            assert jax_joined(values).tolist() == [1.5, 2.5]


if BACKEND == "torch":

    def test_random_states_of_a_cuda_device_are_saved_where_one_is_in_use(monkeypatch):
        import torch

        from keras_bnguard.backends.values.restore import SavedRandomStates, restoring

        states = ["drawn from"]
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(states))
        monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda saved: states.extend(saved))
        with restoring(SavedRandomStates()):
            states.clear()
        assert states == ["drawn from"]
