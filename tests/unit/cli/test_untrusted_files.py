"""`bnguard audit` of files made to run code, to touch other files, or to fill the memory.

Every file here is a real one of the Keras under test that was changed. It has to end with exit
code 2 and one line, with nothing run, and with the file beside it as it was.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import logging
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras_bnguard.cli import main
from keras_bnguard.cli.model_files import loading
from keras_bnguard.cli.model_files.json_text import CALLS
from tests.builders.models import BN, layers
from tests.stack import IS_KERAS3, keras

PACKAGE = "tf_keras" if keras.__name__.startswith("tf_keras") else "keras"
MARKER = "ran"
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5:UserWarning")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Saved models of one Dense and one BN: real.keras and real.h5."""
    folder = tmp_path_factory.mktemp("real")
    inputs = keras.Input((4,), name="inputs")
    model = keras.Model(inputs, BN(name="bn")(layers.Dense(3, name="dense")(inputs)), name="net")
    model.save(folder / "real.keras")
    model.save(folder / "real.h5")
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """A marker that must survive, in the folder from which relative names count."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / MARKER).write_text("as it was")
    yield
    assert (tmp_path / MARKER).read_text() == "as it was"


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezip(path, parts, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return path


def changed(real, change, path="bad.keras"):
    """real.keras with another config.json."""
    parts = members(real / "real.keras")
    config = json.loads(parts["config.json"])
    change(config)
    return rezip(path, {**parts, "config.json": json.dumps(config)})


def changed_h5(real, change, path="bad.h5"):
    """real.h5 with another model_config."""
    Path(path).write_bytes((real / "real.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


def with_layer(**layer):
    """A change that adds a layer to a model."""

    def change(config):
        config["config"]["layers"].append(
            {"name": "extra", "registered_name": None, "inbound_nodes": [], **layer}
        )

    return change


def refused(path, capsys):
    """The one line with which a file is refused."""
    assert main(["audit", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert len(line) < 600
    return line


class _Writes:
    """Unpickled, it changes the marker."""

    def __reduce__(self):
        return (os.system, (f"echo ran >> {MARKER}",))


# --------------------------------------------------------------------- archives
def test_pickled_weights_are_refused(real, capsys):
    parts = members(real / "real.keras")
    del parts["model.weights.h5"]
    trap = np.empty((), dtype=object)
    trap[()] = _Writes()
    stream = io.BytesIO()
    names = ("__root__", "layers/dense/vars", "_layer_checkpoint_dependencies/dense/vars")
    np.savez(stream, **dict.fromkeys(names, trap))
    path = rezip("bad.keras", {**parts, "model.weights.npz": stream.getvalue()})
    assert "'model.weights.npz'" in refused(path, capsys)


@pytest.mark.parametrize(
    "name", ["x.py", "../up", "/etc/x", "model.weights.npz", "_METADATA", "assets", "config.json "]
)
def test_other_members_are_refused(name, real, capsys):
    path = rezip("bad.keras", {**members(real / "real.keras"), name: b"x"})
    assert "and nothing else" in refused(path, capsys)


def test_a_member_that_is_there_twice_is_refused(real, capsys):
    path = rezip("bad.keras", members(real / "real.keras"))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", "{}")
    assert "config.json is in it twice" in refused(path, capsys)


def test_an_archive_without_weights_is_refused(real, capsys):
    parts = members(real / "real.keras")
    del parts["model.weights.h5"]
    assert "has no model.weights.h5" in refused(rezip("bad.keras", parts), capsys)


def test_assets_are_allowed_and_left_out(real, capsys):
    parts = {**members(real / "real.keras"), "assets/": b"", "assets/a/vocabulary.txt": b"a\nb\n"}
    assert main(["audit", str(rezip("good.keras", parts))]) == 0
    assert "bn" in capsys.readouterr().out


# ----------------------------------------------------------- two kinds of file
def hdf5_behind(block):
    """real.h5's contents behind a user block."""
    with h5py.File("behind.h5", "w", userblock_size=65536) as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Lambda", "config": {}})
    behind = bytearray(Path("behind.h5").read_bytes())
    behind[: len(block)] = block
    return bytes(behind)


@pytest.mark.parametrize("name", ["two.keras", "two.h5", "two", "two.hdf5", "TWO.H5"])
def test_an_archive_that_is_hdf5_too_is_refused(name, real, capsys):
    """An archive whose members come first and whose directory comes after the HDF5 data."""
    stream = io.BytesIO()
    archive = zipfile.ZipFile(stream, "w")
    for member, part in members(real / "real.keras").items():
        archive.writestr(member, part)
    end = stream.tell()
    assert end < 65536
    both = hdf5_behind(stream.getvalue()[:end])
    stream.seek(0)
    stream.write(both)
    archive.start_dir = len(both)
    archive.close()
    Path(name).write_bytes(stream.getvalue())
    assert h5py.is_hdf5(name)
    assert "is refused" in refused(name, capsys)


@pytest.mark.parametrize("name", ["two.keras", "two.h5", "two"])
def test_hdf5_with_an_archive_behind_it_is_refused(name, real, capsys):
    Path(name).write_bytes((real / "real.h5").read_bytes() + (real / "real.keras").read_bytes())
    assert "is refused" in refused(name, capsys)


@pytest.mark.parametrize("first", [b"#!/bin/sh\n", b"PK\x03\x04" + bytes(60), bytes(512)])
def test_something_before_an_archive_is_refused(first, real, capsys):
    Path("late.keras").write_bytes(first + (real / "real.keras").read_bytes())
    line = refused("late.keras", capsys)
    assert "something else comes before" in line or "is no model file" in line


def test_a_user_block_is_refused(capsys):
    for name in ("late.h5", "late"):
        Path(name).write_bytes(hdf5_behind(b""))
        refused(name, capsys)


@pytest.mark.parametrize(("source", "name"), [("real.h5", "x.keras"), ("real.keras", "x.h5")])
def test_a_name_that_disagrees_is_refused_with_the_right_one(source, name, real, capsys):
    Path(name).write_bytes((real / source).read_bytes())
    line = refused(name, capsys)
    assert f"Rename it to x{os.path.splitext(source)[1]}" in line


@pytest.mark.parametrize("source", ["real.h5", "real.keras"])
def test_a_file_without_an_ending_is_what_it_contains(source, real, capsys):
    Path("model").write_bytes((real / source).read_bytes())
    assert main(["audit", "model"]) == 0
    assert "bn" in capsys.readouterr().out


def test_what_was_checked_is_what_is_loaded(real, monkeypatch, capsys):
    """The file is exchanged between the check and the load."""
    path = "model.keras"
    Path(path).write_bytes((real / "real.keras").read_bytes())
    load = loading._loaded

    def exchanged(*arguments):
        Path(path).write_bytes(b"something else")
        return load(*arguments)

    monkeypatch.setattr(loading, "_loaded", exchanged)
    assert main(["audit", path]) == 0
    assert "bn" in capsys.readouterr().out


# --------------------------------------------------- classes that are not allowed
CONSTANT = [["_CONSTANT_VALUE", -1, MARKER, {"contents": "ran"}]]
HOSTILE = {
    "Lambda": {"class_name": "Lambda", "module": "keras.layers", "config": {}},
    "ClassMethod": {
        "class_name": "ClassMethod",
        "module": f"{PACKAGE}.src.layers.core.tf_op_layer",
        "config": {"cls_symbol": "io.TFRecordWriter", "method_name": "__call__"},
        "inbound_nodes": CONSTANT,
    },
    "InstanceMethod": {"class_name": "InstanceMethod", "config": {"method_name": "x"}},
    "InstanceProperty": {"class_name": "InstanceProperty", "config": {"attr_name": "x"}},
    "TensorFlowOpLayer": {"class_name": "TensorFlowOpLayer", "config": {"node_def": ""}},
    "dotted": {
        "class_name": "tf_op_layer.TFOpLambda",
        "module": f"{PACKAGE}.src.layers.core",
        "config": {"function": "io.write_file"},
        "inbound_nodes": CONSTANT,
    },
    "write_file": {
        "class_name": "TFOpLambda",
        "config": {"function": "io.write_file"},
        "inbound_nodes": CONSTANT,
    },
    "slicing": {"class_name": "SlicingOpLambda", "config": {"function": "io.write_file"}},
    "reads a file": {
        "class_name": "TFOpLambda",
        "config": {"function": "nn.fixed_unigram_candidate_sampler"},
    },
    "py_function": {"class_name": "TFOpLambda", "config": {"function": "py_function"}},
    "no text": {"class_name": "TFOpLambda", "config": {"function": ["math.add"]}},
    "typespec": {
        "class_name": "__typespec__",
        "module": "os",
        "spec_name": "system",
        "config": [f"echo ran >> {MARKER}"],
    },
    "function of os": {"class_name": "function", "module": "os", "config": "system"},
    "function of a resolver": {
        "class_name": "function",
        "module": "keras.activations",
        "config": "deserialize",
    },
    "module of Keras": {
        "class_name": "get_file",
        "module": "keras.utils",
        "config": {"fname": MARKER, "origin": "http://localhost/x"},
    },
    "another module": {"class_name": "Dense", "module": "os", "config": {}},
    "not there": {"class_name": "Dense", "module": "keras.layers.nowhere", "config": {}},
    "not that class": {
        "class_name": "Dense",
        "module": f"{PACKAGE}.src.testing.test_case",
        "config": {},
    },
    "a resolver": {"class_name": "deserialize_keras_object", "config": {}},
    "registered": {"class_name": "Dense", "module": None, "registered_name": "a>Dense"},
    "registered else": {
        "class_name": "Dense",
        "module": "keras.layers",
        "registered_name": "Custom>Adam",
        "config": {},
    },
    "class of ours": {"class_name": "BNGuard", "module": "keras_bnguard", "config": {}},
    "no class name": {"class_name": ["Dense"], "module": "keras.layers", "config": {}},
    "feature columns": {"class_name": "DenseFeatures", "module": "keras.layers", "config": {}},
    "TFSMLayer": {"class_name": "TFSMLayer", "module": "keras.layers", "config": {}},
    "torch": {"class_name": "TorchModuleWrapper", "module": "keras.layers", "config": {}},
    "vocabulary": {
        "class_name": "StringLookup",
        "module": "keras.layers",
        "config": {"vocabulary": "/etc/passwd"},
    },
    "huge dtype": {
        "class_name": "__numpy__",
        "config": {"value": ["a"] * 9, "dtype": "S1000000000"},
    },
    "on constants": {
        "class_name": "Dense",
        "module": "keras.layers",
        "config": {"units": 2},
        "inbound_nodes": [{"args": [[1.0]], "kwargs": {}}],
    },
    "on constants of Keras 2": {
        "class_name": "TFOpLambda",
        "config": {"function": "repeat"},
        "inbound_nodes": [["_CONSTANT_VALUE", -1, ["a", 0, 0], {"repeats": 10**10}]],
    },
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("change", [changed, changed_h5])
def test_what_is_not_allowed_is_refused(name, change, real, capsys):
    assert "is refused" in refused(change(real, with_layer(**HOSTILE[name])), capsys)


def test_it_is_refused_wherever_it_stands(real, capsys):
    def change(config):
        config["config"]["layers"][-1]["config"]["gamma_initializer"] = HOSTILE["Lambda"]

    assert "Lambda" in refused(changed(real, change), capsys)


def test_the_last_of_two_equal_keys_counts_for_both(real, capsys):
    """JSON with a key twice is written again, so no other reader can take the first."""
    parts = members(real / "real.keras")
    text = parts["config.json"].decode()
    doubled = text.replace('"class_name": ', '"class_name": "Lambda", "class_name": ')
    assert main(["audit", rezip("twice.keras", {**parts, "config.json": doubled})]) == 0
    capsys.readouterr()


# ------------------------------------------------------------- memory and time
def test_more_weights_than_a_file_has_are_refused_before_they_are_made(real, capsys, monkeypatch):
    add_weight = layers.Layer.add_weight
    made = []
    monkeypatch.setattr(layers.Layer, "add_weight", _recording(add_weight, made))
    recording = layers.Layer.add_weight
    wide = 25_000

    def change(config):
        for layer in config["config"]["layers"]:
            settings = layer["config"]
            if layer["class_name"] == "InputLayer":
                key = next(k for k in settings if k in ("batch_shape", "batch_input_shape"))
                settings[key] = [None, wide]
            if layer["class_name"] == "Dense":
                settings["units"] = wide
            if "build_config" in layer:
                layer["build_config"] = {"input_shape": [None, wide]}

    for path in (changed(real, change), changed_h5(real, change)):
        assert "the file has values for less" in refused(path, capsys)
        assert layers.Layer.add_weight is recording
    assert all(np.prod(shape or 1) < loading.FREE_VALUES for shape in made)


def _recording(add_weight, made):
    def recorded(self, *args, **kwargs):
        weight = add_weight(self, *args, **kwargs)
        made.append(tuple(weight.shape))
        return weight

    recorded.__signature__ = inspect.signature(add_weight)
    return recorded


BIG_TEXTS = {
    "many lists": b'{"a": [' + b"[]," * 600_000 + b"[]]}",
    "long": b" " * (17 * 2**20),
    "deep": b'{"a":' * 500 + b"1" + b"}" * 500,
    "very deep": b"[" * 400_000,
    "digits": b'{"a": ' + b"9" * 100_000 + b"}",
    "not UTF-8": b"\xff\xfe\xfd",
}


@pytest.mark.parametrize("name", BIG_TEXTS)
def test_a_description_larger_than_any_is_refused(name, real, capsys):
    parts = {**members(real / "real.keras"), "config.json": BIG_TEXTS[name]}
    refused(rezip("big.keras", parts, zipfile.ZIP_DEFLATED), capsys)


def test_a_graph_that_doubles_with_every_level_is_refused(real, capsys):
    """Level by level a model calls the one below twice: 2^40 calls in a few kB."""

    def level(number):
        inner = {"class_name": "Dense", "config": {"units": 4}} if not number else level(number - 1)
        model = {"class_name": "Functional", "config": {"layers": [inner]}}
        return {**model, "inbound_nodes": [[["a", 0, 0, {}]], [["b", 0, 0, {}]]]}

    def change(config):
        config["config"]["layers"].append(level(40))

    for path in (changed(real, change), changed_h5(real, change)):
        assert f"more than {CALLS:,} calls" in refused(path, capsys)


def test_shared_objects_count_where_they_are_used(real, capsys):
    """The same, with objects that are written once and named by their number."""

    def wrapped(name, inner):
        return {"class_name": "Sequential", "config": {"name": name, "layers": inner}}

    def change(config):
        parts = []
        for number in range(40):
            below = {"class_name": "Sequential", "config": {}, "shared_object_id": number}
            both = [wrapped(f"a{number}", [below]), wrapped(f"b{number}", [below])]
            parts.append({**wrapped(f"l{number}", both), "shared_object_id": number + 1})
        config["config"]["layers"].extend(parts)

    assert f"more than {CALLS:,} calls" in refused(changed(real, change), capsys)


def test_packed_weights_that_are_far_larger_than_the_file_are_refused(real, capsys):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["zeros"] = np.zeros(30 * 2**20, "float32")
    parts = {**members(real / "real.keras"), "model.weights.h5": stream.getvalue()}
    path = rezip("zeros.keras", parts, zipfile.ZIP_DEFLATED)
    assert "would unpack to" in refused(path, capsys)


# ---------------------------------------------------------------- no false alarm
def test_a_named_datatype_and_texts_in_hdf5_are_no_reason_to_refuse(real, capsys):
    Path("named.h5").write_bytes((real / "real.h5").read_bytes())
    with h5py.File("named.h5", "r+") as file:
        file["type"] = np.dtype("float32")
        file["texts"] = ["a", "b"]
        file["more"] = file["model_weights"]
    assert main(["audit", "named.h5"]) == 0
    capsys.readouterr()


def own_loss(y_true, y_pred):
    return (y_true - y_pred) ** 2


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_the_statistics_are_those_of_the_file(ending, tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, BN(name="bn")(inputs))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(1, 2, w.shape) for w in model.get_weights()])
    model.compile("adam", own_loss)
    model.save(tmp_path / f"m.{ending}")
    loaded = loading.load(str(tmp_path / f"m.{ending}"))
    for here, there in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(here, there)
    assert loaded.get_layer("bn").dtype == model.get_layer("bn").dtype


@pytest.mark.skipif(not IS_KERAS3, reason="Keras 2 has no quantize()")
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantized_models_are_audited(mode, capsys):
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(2)(BN(name="bn")(layers.Dense(4)(inputs))))
    try:
        model.quantize(mode)
    except (ValueError, NotImplementedError) as error:
        pytest.skip(f"this Keras has no {mode}: {error}")
    model.save("quantized.keras")
    assert main(["audit", "quantized.keras"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Adagrad", "Adamax", "Nadam", "Ftrl"])
def test_compiled_models_are_audited_whatever_the_optimizer(name, real, capsys):
    model = keras.models.load_model(real / "real.keras")
    model.compile(getattr(keras.optimizers, name)(0.1), "mse", metrics=["mae"])
    for path in ("compiled.keras", "compiled.h5"):
        model.save(path)
        assert main(["audit", path]) == 0
    capsys.readouterr()


def test_a_compiled_model_inside_a_model_is_audited(real, capsys):
    inner = keras.models.load_model(real / "real.keras")
    inner.compile("adam", "mse")
    inputs = keras.Input((4,))
    keras.Model(inputs, BN()(inner(inputs))).save("outer.keras")
    assert main(["audit", "outer.keras"]) == 0
    capsys.readouterr()


@contextlib.contextmanager
def _without_warnings():
    log = logging.getLogger("tensorflow")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@pytest.mark.skipif(IS_KERAS3, reason="Keras 3 has operations of its own")
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_common_tensorflow_operations_are_audited(ending, capsys):
    import tensorflow as tf

    inputs = keras.Input((4, 4, 4))
    x = BN(name="bn")(inputs)
    x = tf.repeat(x, 2, axis=1) * 2 + 1
    x = tf.broadcast_to(x, tf.shape(x))
    x = tf.stop_gradient(x)
    x = tf.nn.depth_to_space(x, 2)[:, :2] - tf.math.reduce_mean(tf.abs(x))
    x = tf.image.resize(tf.concat([x, tf.nn.relu(1.0 - x)], -1), (8, 8))
    x = tf.where(x > 0, x, tf.zeros_like(x))
    x = tf.clip_by_value(tf.transpose(x, [0, 2, 1, 3]), 0.0, 1.0)
    with _without_warnings():
        keras.Model(inputs, x).save(f"operations.{ending}")
    assert main(["audit", f"operations.{ending}"]) == 0
    capsys.readouterr()


@pytest.mark.skipif(not IS_KERAS3, reason="Keras 2 has no operations of its own")
def test_operations_of_keras_3_are_audited(capsys):
    ops = keras.ops
    inputs = keras.Input((4,))
    x = BN(name="bn")(inputs)
    x = ops.concatenate([ops.relu(x) * 2 + 1, ops.softmax(x), keras.activations.gelu(x)], -1)
    x = ops.where(x > 0, x, ops.zeros_like(x))
    x = ops.repeat(ops.stop_gradient(ops.mean(x, -1, keepdims=True)), 2, axis=1)[:, :1]
    keras.Model(inputs, x).save("operations.keras")
    assert main(["audit", "operations.keras"]) == 0
    capsys.readouterr()


def test_of_a_saved_model_only_description_and_values_are_opened(real, monkeypatch, capsys):
    """Also where the graph is no file at all."""
    if IS_KERAS3:
        pytest.skip("Keras 3 writes no such folders")
    model = keras.models.load_model(real / "real.h5", compile=False)
    with _without_warnings():
        model.save("folder", save_format="tf")
    os.remove("folder/saved_model.pb")
    open("folder/saved_model.pb", "w").close()
    os.chmod("folder/saved_model.pb", 0)
    assert main(["audit", "folder"]) == 0
    capsys.readouterr()
    os.rename("folder/variables/variables.index", "elsewhere")
    os.symlink("../../elsewhere", "folder/variables/variables.index")
    assert "kept elsewhere" in refused("folder", capsys)


def test_pickle_of_a_model_is_refused(capsys):
    with open("model.pkl", "wb") as file:
        pickle.dump(_Writes(), file)
    refused("model.pkl", capsys)
