"""`bnguard audit`: exit code 0, 1 or 2, and one clear line for a file that cannot be looked at."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from keras_bnguard.cli import main
from tests.models import layers, transfer
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
    return folder


def save(model, path, broken=False):
    """Save a model with statistics as after a pretraining, or with a NaN among them."""
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.uniform(0.1, 0.2, w.shape) for w in model.get_weights()])
    if broken:
        weights = model.get_layer("head_bn").get_weights()
        weights[3][0] = np.nan
        model.get_layer("head_bn").set_weights(weights)
    model.save(path)


def test_a_good_model_ends_with_0(folder, capsys):
    assert main(["audit", str(folder / "good.keras")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("keras_bnguard: nothing found")
    assert "base/bn" in out
    assert "head_bn" in out


def test_a_finding_ends_with_1_and_is_printed(folder, capsys):
    assert main(["audit", str(folder / "nan.keras")]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("keras_bnguard: do not trust this run: 1 error(s)")
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


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("nowhere.keras", 2, "does not exist."),
        ("notes.keras", 2, "is a folder; expected a .keras or .h5 file."),
        ("text.keras", 1, "is no model file: neither a .keras archive nor HDF5."),
        ("empty.keras", 1, "is no model file: neither a .keras archive nor HDF5."),
        ("cut.keras", 1, "is broken: BadZipFile: File is not a zip file"),
        ("cut.h5", 1, "is broken: OSError: "),
        ("photos.keras", 1, "is broken: KeyError: "),
        ("lambda.keras", 1, "is refused: Lambda brings code of its own. Load it yourself and"),
    ],
)
def test_what_cannot_be_looked_at_gets_one_line(name, code, said, folder, capsys):
    path = folder / name
    assert main(["audit", str(path)]) == code
    assert one_line(capsys).startswith(f"bnguard: {path} {said}")


def test_a_zip_cut_in_the_middle_of_its_weights_is_broken(folder, tmp_path, capsys):
    path = tmp_path / "half.keras"
    with zipfile.ZipFile(folder / "good.keras") as whole, zipfile.ZipFile(path, "w") as half:
        half.writestr("config.json", whole.read("config.json"))
        half.writestr("metadata.json", whole.read("metadata.json"))
        half.writestr("model.weights.h5", whole.read("model.weights.h5")[:1000])
    assert main(["audit", str(path)]) == 1
    assert one_line(capsys).startswith(f"bnguard: {path} cannot be loaded by ")


def test_what_comes_with_a_file_is_not_run(tmp_path, capsys):
    """A file that names a function of the standard library is refused, not called."""
    path, ran = tmp_path / "hostile.keras", tmp_path / "ran"
    layer = {"module": "os", "class_name": "system", "config": {"command": f"touch {ran}"}}
    model = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(model))
    assert main(["audit", str(path)]) == 1
    assert one_line(capsys).startswith(f"bnguard: {path} is refused: system (of os) is no part")
    assert not ran.exists()


def one_line(capsys):
    """The only line of stderr; stdout is empty."""
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line
