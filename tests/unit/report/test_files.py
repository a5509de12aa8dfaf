"""Files of reports: whole or as they were before, and tried before training."""

from __future__ import annotations

import errno
import os
import stat
import threading

import pytest

from keras_bnguard.errors import SettingError
from keras_bnguard.report import files
from keras_bnguard.report.files import check_writable, write_text

ODD = "größe \udcff\n"


def test_a_file_is_written_in_folders_that_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "r.txt"
    write_text(path, ODD)
    assert path.read_bytes() == b"gr\xc3\xb6\xc3\x9fe \\udcff\n"
    assert os.listdir(path.parent) == ["r.txt"]


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "usual").write_text("")
    write_text(tmp_path / "r.txt", "new")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "r.txt")]
    assert modes[0] == modes[1]


def test_a_file_that_is_replaced_keeps_its_permissions_and_its_link(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["write", "replace"])
def test_a_full_disk_leaves_the_old_report(tmp_path, monkeypatch, name):
    path = tmp_path / "r.txt"
    path.write_text("old")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    if name == "replace":
        monkeypatch.setattr(files.os, "replace", full)
    else:
        monkeypatch.setattr(files, "_write", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new" * 9000)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["r.txt"]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EACCES])
def test_a_file_that_cannot_be_replaced_is_written_in_its_place(tmp_path, monkeypatch, number):
    path = tmp_path / "r.txt"
    path.write_text("old and longer")

    def no_rename(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "replace", no_rename)
    write_text(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["r.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name here")
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    path = tmp_path / "pipe.txt"
    os.mkfifo(path)
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    write_text(path, "through")
    reader.join(10)
    assert read == ["through"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_trying_a_path_leaves_nothing_behind(tmp_path):
    old = tmp_path / "old.txt"
    old.write_text("old")
    for path in (old, tmp_path / "new.txt", tmp_path / "no" / "such" / "folder" / "r.txt"):
        check_writable(path)
    assert os.listdir(tmp_path) == ["old.txt"]
    assert old.read_text() == "old"


@pytest.mark.parametrize("path", ["folder", "file/r.json", "/dev/null/r.json"])
def test_a_path_that_cannot_be_written_is_one_error(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError) as caught:
        check_writable(path)
    assert repr(path) in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
