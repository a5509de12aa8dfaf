"""`bnguard audit` of files with Keras's own layers: none of them is refused."""

from __future__ import annotations

import inspect
import itertools

import pytest

from keras_bnguard.cli import main
from tests.stack import keras

layers = keras.layers
SHAPES = ((4,), (6, 4), (8, 8, 4), (4, 8, 8, 4), (3, 8, 8, 4))
ARGUMENTS = {
    "units": 4, "filters": 4, "kernel_size": 2,
    "height": 4, "width": 4, "target_shape": (2, -1), "dims": (1,), "n": 2, "num_heads": 2,
    "key_dim": 2, "head_dim": 4, "num_query_heads": 2, "num_key_value_heads": 2,
    "input_dim": 9, "output_dim": 4, "scale": 0.5, "offset": 0.1, "layer": layers.Dense(3),
    "min_value": 0.0, "max_value": 1.0, "num_bins": 3, "bin_boundaries": [0.0, 1.0],
    "data_format": "channels_last", "equation": "abc,cd->abd", "output_shape": (None, 4),
    "sequence_length": 4, "l2": 0.1, "activation": "relu", "cell": None, "seed": 1,
    "mean": 0.0, "variance": 1.0, "value_range": (0, 1), "max_length": 4, "step": 2,
    "num_tokens": 9, "sequence_stride": 2, "cropping": 1, "padding": 1, "size": 2,
    "groups": 2, "num_frequency_bins": 4, "dilation_rate": 1, "power": 1.0, "max_norm": 1.0,
    "output_size": 2, "pool_size": 2, "axes": 1, "height_factor": 0.1, "width_factor": 0.1,
    "max_number": 4, "fft_length": 4, "sequence_size": 4, "position": 1,
}  # fmt: skip
BESIDES = {
    "Discretization": {"bin_boundaries": [0.0, 1.0]},
    "GroupNormalization": {"groups": 2},
    "RandomPosterization": {"factor": 4},
    "IntegerLookup": {"vocabulary": [1, 2, 3]},
    "StringLookup": {"vocabulary": ["a", "b"]},
    "TextVectorization": {"vocabulary": ["a", "b"]},
    "Pipeline": {"layers": [layers.Dense(3)]},
    "STFTSpectrogram": {"frame_length": 4, "frame_step": 2, "fft_length": 4},
}
# Not a layer of a model by itself, or one that runs or wraps code that a file cannot hold.
LEFT_OUT = {
    "AbstractRNNCell", "ComposedLayer", "FlaxLayer", "InputLayer", "JaxLayer", "Lambda", "Layer",
    "LSTMCell", "GRUCell", "SimpleRNNCell", "StackedRNNCells", "TFSMLayer", "TorchModuleWrapper",
    "Wrapper", "ConvLSTMCell",
}  # fmt: skip


def built_in():
    """Names of all layers that this Keras exports, once a class."""
    found = {}
    for name in sorted(dir(layers)):
        cls = getattr(layers, name)
        if inspect.isclass(cls) and issubclass(cls, layers.Layer) and name not in LEFT_OUT:
            found.setdefault(cls, name)
    return sorted(found.values())


def instance(name):
    """A layer with an argument for each parameter without a default; 0.1 where none is listed."""
    cls = getattr(layers, name)
    if name == "RNN":
        return cls(layers.LSTMCell(3))
    if name == "Bidirectional":
        return cls(layers.LSTM(3))
    parameters = inspect.signature(cls.__init__).parameters.values()
    needed = [
        each.name
        for each in list(parameters)[1:]
        if each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]
    return cls(**{**{each: ARGUMENTS.get(each, 0.1) for each in needed}, **BESIDES.get(name, {})})


def model_of(name):
    """A functional model with one layer, whatever inputs it takes; None where none was found."""
    for shape, inputs, dtype in itertools.product(SHAPES, (1, 2), ("float32", "int32", "string")):
        given = [keras.Input(shape, dtype=dtype) for _ in range(inputs)]
        for called in (lambda layer, x: layer(*x), lambda layer, x: layer(x)):
            try:
                model = keras.Model(given, called(instance(name), given))
                keras.Model.from_config(model.get_config())  # Keras 2 makes what it cannot load.
                return model
            except Exception:  # another shape, or another number of inputs
                continue
    return None


@pytest.fixture(scope="module")
def not_made():
    """Collects layers that no model was made of, so that they stay few: without TensorFlow six."""
    found = []
    yield found
    assert len(found) <= 12, f"layers that no model was made of: {found}"


@pytest.mark.parametrize("name", built_in())
def test_a_layer_of_keras_is_audited(name, not_made, tmp_path, capsys):
    model = model_of(name)
    if model is None:
        not_made.append(name)
        return
    path = tmp_path / "model.keras"
    model.save(path)
    assert main(["audit", str(path)]) in (0, 1), capsys.readouterr().err


def applications():
    """One function of each module of keras.applications that builds models."""
    found = {}
    for name in sorted(dir(keras.applications)):
        build = getattr(keras.applications, name)
        if name[0].isupper() and callable(build):
            found.setdefault(build.__module__, name)
    return sorted(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", applications())
def test_a_model_of_keras_applications_is_audited(name, tmp_path, capsys):
    model = getattr(keras.applications, name)(weights=None)
    path = tmp_path / "model.keras"
    model.save(path)
    assert main(["audit", str(path)]) in (0, 1), capsys.readouterr().err
