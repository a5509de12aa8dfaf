"""A call beside the step changes nothing of the model, inside a trace too."""

from __future__ import annotations

import numpy as np
import pytest

from keras_bnguard.backends.values.isolated_call import (
    TensorSpec,
    all_variables,
    describe_tensors,
    isolated_call,
    map_specs,
    with_dtype,
)
from keras_bnguard.inference.measurement import ROWS, MeasuredCalls
from tests.builders.models import BN, data, sgd
from tests.builders.norm_kinds import in_graph
from tests.builders.values import as_array
from tests.contract.models import BACKEND_OF, built
from tests.stack import IS_KERAS3, keras


def values_of(layer):
    return [(v, np.full(tuple(v.shape), 2.0, np.float32)) for v in all_variables(layer)]


def failing(x):
    raise NotImplementedError


def test_the_call_gets_these_values_and_the_variables_keep_theirs():
    norm = built(BN())
    before = [as_array(v).tobytes() for v in norm.weights]
    x = np.arange(12, dtype=np.float32).reshape(4, 3)

    def run(inputs):
        return norm(inputs, training=False)

    result = isolated_call(
        BACKEND_OF, norm, run, ((with_dtype(x, "float32"),), {}), values_of(norm)
    )
    np.testing.assert_allclose(
        result.outputs[0], 2.0 * (x - 2.0) / np.sqrt(2.0 + norm.epsilon) + 2.0, rtol=1e-4
    )
    assert result.changed == (False,) * len(norm.weights)
    assert [as_array(v).tobytes() for v in norm.weights] == before


def test_what_the_call_assigns_is_seen_and_taken_back():
    norm = built(BN())
    before = [as_array(v).tobytes() for v in norm.weights]
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    arguments = ((with_dtype(x, "float32"),), {"training": True})
    result = isolated_call(BACKEND_OF, norm, norm, arguments, values_of(norm))
    changed = {id(v): c for v, c in zip(all_variables(norm), result.changed)}
    assert changed[id(norm.moving_mean)]
    assert changed[id(norm.moving_variance)]
    assert not changed[id(norm.gamma)]
    assert [as_array(v).tobytes() for v in norm.weights] == before


def test_values_are_taken_back_after_an_error():
    norm = built(BN())
    before = [as_array(v).tobytes() for v in norm.weights]
    with pytest.raises(NotImplementedError):
        isolated_call(BACKEND_OF, norm, failing, ((1,), {}), values_of(norm))
    assert [as_array(v).tobytes() for v in norm.weights] == before


def test_inside_a_trace_nothing_of_the_step_changes():
    """Two runs are equal bit for bit, one of them with a call beside its first step."""

    class Watched(BN):
        measured = None
        wanted = False

        def call(self, inputs, training=None):
            if self.wanted and Watched.measured is None:
                calls = MeasuredCalls(BACKEND_OF, self, (inputs,), {"training": True})
                own = super().call
                Watched.measured = calls.measure(own, [self.moving_mean, self.moving_variance])
            return super().call(inputs, training=training)

    def run(wanted):
        keras.utils.set_random_seed(3)
        model = in_graph(Watched(name="bn"))
        model.get_layer("bn").wanted = wanted
        model.compile(sgd(), "mse")
        model.fit(*data(24), batch_size=8, shuffle=False, verbose=0)
        return [as_array(v).tobytes() for v in model.weights]

    assert run(False) == run(True)
    assert Watched.measured.statistics_change
    assert Watched.measured.rows_depend_on_batch


def test_tensors_in_arguments_are_described():
    tensor = keras.ops.zeros((4, 3)) if IS_KERAS3 else __import__("tensorflow").zeros((4, 3))
    specs = describe_tensors(BACKEND_OF, ((tensor, None, 2), {"mask": [tensor]}))
    expected = TensorSpec((4, 3), "float32")
    assert specs == ((expected, None, 2), {"mask": [expected]})
    assert map_specs(specs, lambda spec: ROWS) == ((ROWS, None, 2), {"mask": [ROWS]})
