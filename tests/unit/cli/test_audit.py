"""`bnguard audit`: exit code 0, 1 or 2, and one clear line for a file that cannot be read."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import sys
import zipfile

import h5py
import numpy as np
import pytest

from keras_bnguard.cli import main
from tests.builders.models import layers, transfer
from tests.stack import IS_KERAS3, STACK, keras


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Saved models: good.keras, nan.keras (non-finite statistics), recipe.keras, and broken."""
    folder = tmp_path_factory.mktemp("models")
    save(transfer(), folder / "good.keras")
    save(transfer(), folder / "nan.keras", broken=True)
    save(transfer(training=False), folder / "recipe.keras")
    inputs = keras.Input((4,))
    outputs = layers.Lambda(lambda x: x + 1.0)(inputs)
    keras.Model(inputs, outputs).save(folder / "lambda.keras")
    (folder / "text.keras").write_text("my model\n")
    (folder / "empty.keras").write_bytes(b"")
    (folder / "cut.keras").write_bytes((folder / "good.keras").read_bytes()[:300])
    (folder / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    (folder / "notes.keras").mkdir()
    with zipfile.ZipFile(folder / "photos.keras", "w") as archive:
        archive.writestr("cat.txt", "cat")
    make_hostile(folder)
    return folder


def make_hostile(folder):
    """Files that would run code, fill the memory, or read what lies beside them."""
    (folder / "pickle.keras").write_bytes(pickle.dumps({"a": 1}))
    for name, members in {
        "torch.pt": {"archive/data.pkl": b""},
        "deep.keras": {"config.json": b"[" * 200_000},
        "list.keras": {"config.json": b"[]"},
        "bomb.keras": {"config.json": b"{}", "model.weights.h5": bytes(300 * 2**20)},
        "long.keras": {"config.json": b" " * (51 * 2**20)},
    }.items():
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
    with h5py.File(folder / "weights.h5", "w") as file:
        file["a"] = 1
    for name in ("shape.h5", "link.h5", "outside.h5"):
        with h5py.File(folder / name, "w") as file:
            file.attrs["model_config"] = "{}"
            if name == "shape.h5":
                file.create_dataset("x", (10**6, 10**6), "f4", chunks=(1000, 1000))
            elif name == "link.h5":
                file["elsewhere"] = h5py.ExternalLink("good.h5", "/")
            else:
                file.create_dataset("x", (4,), "f4", external=[(str(folder / "text.keras"), 0, 16)])
    with zipfile.ZipFile(folder / "outside.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.write(folder / "outside.h5", "model.weights.h5")


def save(model, path, broken=False, **more):
    """Save a model with statistics as after a pretraining, or with a NaN among them."""
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.uniform(0.1, 0.2, w.shape) for w in model.get_weights()])
    if broken:
        weights = model.get_layer("head_bn").get_weights()
        weights[3][0] = np.nan
        model.get_layer("head_bn").set_weights(weights)
    model.save(path, **more)


def test_a_good_model_ends_with_0(folder, capsys):
    assert main(["audit", str(folder / "good.keras")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("keras_bnguard: nothing found")
    assert "2 BN: 2 will run in the mode" in out
    assert len(out.splitlines()) == 4
    assert main(["audit", "-v", str(folder / "good.keras")]) == 0
    out = capsys.readouterr().out
    assert "base/bn" in out
    assert "head_bn" in out


@pytest.mark.parametrize("ending", ["json", "txt", "sarif"])
def test_the_report_is_written_where_it_is_asked_for(folder, ending, tmp_path, capsys):
    file = tmp_path / f"r.{ending}"
    assert main(["audit", "--report", str(file), str(folder / "nan.keras")]) == 1
    assert capsys.readouterr().err == f"report written to {file}\n"
    assert "BNG402" in file.read_text(encoding="utf-8")


def test_a_report_of_no_format_is_refused_before_the_file_is_read(tmp_path, capsys):
    assert main(["audit", "--report", "r.pdf", str(tmp_path / "missing.keras")]) == 2
    assert "r.pdf" in one_line(capsys)


def test_a_finding_ends_with_1_and_is_printed(folder, capsys):
    assert main(["audit", str(folder / "nan.keras")]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("keras_bnguard: do not trust this run: 1 error")
    assert "BNG402 non-finite-statistics [error]" in out


def test_the_recipe_is_a_finding_only_where_this_keras_ignores_it(folder, capsys):
    assert main(["audit", str(folder / "recipe.keras")]) == int(IS_KERAS3)
    assert ("BNG201" in capsys.readouterr().out) is IS_KERAS3


def test_as_json(folder, capsys):
    assert main(["audit", str(folder / "nan.keras"), "--output-format", "json"]) == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert err == ""
    assert [finding["code"] for finding in report["findings"]] == ["BNG402"]
    assert report["stack"]["name"] == STACK


def test_select_and_ignore(folder, capsys):
    path = str(folder / "nan.keras")
    assert main(["audit", path, "--select", "BNG402"]) == 1
    assert main(["audit", path, "--select", "BNG1,BNG2"]) == 0
    assert main(["audit", path, "--ignore", "BNG402"]) == 0
    assert "BNG402 non-finite" not in capsys.readouterr().out.split("nothing found", 1)[1]


@pytest.mark.parametrize("option", ["--select", "--ignore"])
def test_a_rule_that_does_not_exist_is_wrong_usage(option, folder, capsys):
    assert main(["audit", str(folder / "good.keras"), option, "BNG999"]) == 2
    assert "'BNG999' is no rule code" in one_line(capsys)


def test_as_annotations(folder, capsys):
    assert main(["audit", str(folder / "nan.keras"), "--output-format", "github"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    (line,) = out.splitlines()
    assert line.startswith("::error title=BNG402 non-finite-statistics::")
    assert main(["audit", str(folder / "good.keras"), "--output-format", "github"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nowhere.keras", "does not exist."),
        ("notes.keras", "is a folder and no SavedModel; expected a .keras or .h5 file, or"),
        ("text.keras", "is no model file: neither a .keras archive nor HDF5 nor"),
        ("empty.keras", "is empty."),
        ("cut.keras", "is broken: BadZipFile: File is not a zip file"),
        ("cut.h5", "is broken: OSError: "),
        ("photos.keras", "is no model file: a zip archive without config.json."),
        ("lambda.keras", "is refused: Lambda brings code of its own. Load it yourself and"),
        ("pickle.keras", "is a pickle, and opening one runs code from it."),
        ("torch.pt", "is a pickle of torch, and opening one runs code from it."),
        ("weights.h5", "holds weights only."),
        ("deep.keras", "is broken: RecursionError: "),
        ("list.keras", "is broken: its description is no JSON object"),
        ("bomb.keras", "is refused: 3"),
        ("long.keras", "is refused: its config.json has more than 16 MB."),
        ("shape.h5", "is refused: "),
        ("link.h5", "is refused: /elsewhere points into another file."),
        ("outside.keras", "is refused: /x is kept in another file."),
    ],
)
def test_what_cannot_be_read_gets_one_line_and_2(name, line, folder, capsys):
    path = folder / name
    assert main(["audit", str(path)]) == 2
    assert one_line(capsys).startswith(f"bnguard: {path} {line}")


def test_a_name_cannot_write_on_the_terminal(capsys):
    assert main(["audit", "a\x1b[31mb.keras"]) == 2
    assert one_line(capsys) == "bnguard: a\\x1b[31mb.keras does not exist."


def archive(path, config, version, **members):
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("config.json", json.dumps(config))
        made.writestr("metadata.json", json.dumps({"keras_version": version}))
        for name, data in {"model.weights.h5": no_weights(), **members}.items():
            made.writestr(name, data)
    return str(path)


def no_weights():
    """An HDF5 file with nothing in it."""
    stream = io.BytesIO()
    h5py.File(stream, "w").close()
    return stream.getvalue()


def test_a_file_of_another_keras_gets_a_line_that_names_it(tmp_path, capsys):
    module = "keras.src.models.functional" if not IS_KERAS3 else "keras.src.engine.functional"
    config = {"module": module, "class_name": "Functional", "config": {}}
    path = archive(tmp_path / "other.keras", config, "2.15.0" if IS_KERAS3 else "3.15.1")
    assert main(["audit", path]) == 2
    line = one_line(capsys)
    if IS_KERAS3:
        assert "was saved by keras 2.15.0 and cannot be loaded by " in line
        assert "run bnguard audit where keras 2 is installed" in line
    else:
        assert "was saved by keras 3.15.1; here is " in line
        assert "Run bnguard audit where Keras 3 is installed." in line


@pytest.mark.skipif(STACK in ("tfk", "k3-tf"), reason="tf_keras is installed beside them")
def test_a_file_of_tf_keras_where_it_is_not_installed_gets_a_clear_line(tmp_path, capsys):
    config = {"module": "tf_keras.src.engine.functional", "class_name": "Functional", "config": {}}
    assert main(["audit", archive(tmp_path / "tfk.keras", config, "2.21.0")]) == 2
    line = one_line(capsys)
    assert "is a file of tf_keras 2.21.0; keras " in line
    assert "pip install tf_keras" in line


def test_a_class_of_your_own_is_refused(tmp_path, capsys):
    config = {"module": None, "class_name": "Net", "config": {}, "registered_name": "Net"}
    assert main(["audit", archive(tmp_path / "net.keras", config, "3.15.1")]) == 2
    assert "is refused: Net (of your own code) is no part of Keras." in one_line(capsys)


# ------------------------------------------------------------------ SavedModel
@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """SavedModel folders of Keras 2: good, nan and of a subclass."""
    folder = tmp_path_factory.mktemp("saved")
    save(transfer(), folder / "good", save_format="tf")
    save(transfer(), folder / "nan", broken=True, save_format="tf")

    class Own(keras.Model):
        def call(self, inputs):
            return inputs + 1.0

    own = Own()
    own(np.ones((1, 2), "float32"))
    own.save(folder / "own", save_format="tf")
    return folder


@pytest.mark.skipif(IS_KERAS3, reason="Keras 3 writes no such folders")
def test_a_saved_model_is_read_without_its_graph(saved, capsys):
    (saved / "good" / "saved_model.pb").write_bytes(b"not read")
    assert main(["audit", "-v", str(saved / "good")]) == 0
    assert "base/bn" in capsys.readouterr().out
    assert main(["audit", str(saved / "nan")]) == 1
    assert "BNG402 non-finite-statistics" in capsys.readouterr().out
    assert main(["audit", str(saved / "own")]) == 2
    assert "is refused: Own is a class of your own" in one_line(capsys)


@pytest.mark.skipif(IS_KERAS3, reason="Keras 3 writes no such folders")
@pytest.mark.parametrize("part", ["keras_metadata.pb", "variables/variables.index"])
def test_a_broken_saved_model_gets_one_line(part, saved, tmp_path, capsys):
    shutil.copytree(saved / "nan", tmp_path / "cut")
    (tmp_path / "cut" / part).write_bytes((saved / "nan" / part).read_bytes()[:100])
    assert main(["audit", str(tmp_path / "cut")]) == 2
    assert one_line(capsys).startswith(f"bnguard: {tmp_path / 'cut'} ")


def message(*fields):
    """A protocol buffer message of (number, bytes), each shorter than 16,384 bytes."""
    parts = []
    for number, value in fields:
        size = len(value)
        length = [size] if size < 128 else [size & 127 | 128, size >> 7]
        parts.append(bytes([number << 3 | 2, *length]) + value)
    return b"".join(parts)


def test_a_saved_model_is_refused_or_named_on_every_stack(tmp_path, capsys):
    """Also where Keras 3 has no reader for it: what is wrong with it comes first."""
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert main(["audit", str(tmp_path)]) == 2
    assert "a SavedModel without keras_metadata.pb" in one_line(capsys)

    def described(layer):
        layers = [layer]
        root = {"class_name": "Sequential", "config": {"name": "m", "layers": layers}}
        node = message((3, b"root"), (4, b"_tf_keras_sequential"), (5, json.dumps(root).encode()))
        (tmp_path / "keras_metadata.pb").write_bytes(message((1, node)))

    described({"class_name": "Lambda", "config": {"function": "code"}})
    assert main(["audit", str(tmp_path)]) == 2
    assert "is refused: Lambda brings code of its own." in one_line(capsys)
    described({"class_name": "Dense", "config": {"units": 1}})
    assert main(["audit", str(tmp_path)]) == 2
    line = one_line(capsys)
    if STACK in ("k3-jax", "k3-torch"):
        assert "is a SavedModel of Keras 2; keras 3" in line
        assert "pip install tf_keras" in line
    else:
        assert " cannot be loaded by " in line  # Its values are missing.


def test_a_zip_cut_in_the_middle_of_its_weights_is_broken(folder, tmp_path, capsys):
    path = tmp_path / "half.keras"
    with zipfile.ZipFile(folder / "good.keras") as whole, zipfile.ZipFile(path, "w") as half:
        half.writestr("config.json", whole.read("config.json"))
        half.writestr("metadata.json", whole.read("metadata.json"))
        half.writestr("model.weights.h5", whole.read("model.weights.h5")[:1000])
    assert main(["audit", str(path)]) == 2
    assert one_line(capsys).startswith(f"bnguard: {path} is broken: OSError: ")


def test_what_comes_with_a_file_is_not_run(tmp_path, capsys):
    """A file that names a function of the standard library is refused, not called."""
    path, ran = tmp_path / "hostile.keras", tmp_path / "ran"
    layer = {"module": "os", "class_name": "system", "config": {"command": f"touch {ran}"}}
    model = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(model))
    assert main(["audit", str(path)]) == 2
    assert one_line(capsys).startswith(f"bnguard: {path} is refused: system (of os) is no part")
    assert not ran.exists()


def one_line(capsys):
    """The only line of stderr; stdout is empty."""
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


def test_a_missing_package_is_named_and_the_file_is_not_called_broken(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert main(["audit", str(folder / "good.keras")]) == 2
    line = one_line(capsys)
    assert "without the package h5py: pip install h5py" in line
    assert "broken" not in line
