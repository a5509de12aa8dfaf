"""Files of reports: tried before training, written beside and renamed, so that none is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from typing import Union

from keras_bnguard.errors import SettingError

PathLike = Union[str, "os.PathLike[str]"]
_NO_RENAME = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV)
"""Why a file cannot be replaced that may be written all the same: its folder is read-only, or it
is mounted by itself."""


def write_text(path: PathLike, text: str) -> None:
    """Write a file in UTF-8 with Unix line ends; missing folders are made.

    The text goes to a file beside it first, which takes its place when it is complete: where the
    disk is full or the process is killed, an older file is still whole.

    Args:
        path: the file; one that exists is replaced and keeps its permissions.
        text: all of it. What is no valid Unicode is escaped.

    Raises:
        OSError: the file cannot be written.
    """
    target = os.path.realpath(path)
    body = text.encode("utf-8", "backslashreplace")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not _is_replaceable(target):
        _write(target, body, os.O_WRONLY)
        return
    beside = _name_beside(target)
    try:
        _write(beside, body, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with contextlib.suppress(OSError):
            os.chmod(beside, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(beside, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        number = getattr(error, "errno", None)
        if number not in _NO_RENAME or not os.path.isfile(target):
            raise
        _write(target, body, os.O_WRONLY | os.O_TRUNC)


def check_writable(path: PathLike) -> None:
    """Try whether a file can be written, before hours of training. Nothing is left behind.

    Args:
        path: a file that may exist, in folders that may not.

    Raises:
        SettingError: it is a folder, or its folder cannot be written to.
    """
    target = os.path.realpath(path)
    try:
        if os.path.isdir(target):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
        if os.path.exists(target) and os.access(target, os.W_OK):
            return
        folder = os.path.dirname(target)
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        beside = _name_beside(os.path.join(folder, os.path.basename(target)))
        _write(beside, b"", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.unlink(beside)
    except OSError as error:
        raise SettingError(
            f"report={os.fspath(path)!r} cannot be written: {error.strerror or error}. Pass a file "
            "in a folder that you may write to."
        ) from None


def not_written(path: PathLike, error: OSError) -> str:
    """The line about a report that could not be written when training was over."""
    return f"the report {os.fspath(path)} could not be written: {error.strerror or error}"


def _is_replaceable(path: str) -> bool:
    """Whether a path is free or an ordinary file; a pipe or a device is written to."""
    return not os.path.exists(path) or os.path.isfile(path)


def _name_beside(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name[:100]}.{os.getpid()}.{secrets.token_hex(4)}.part")


def _write(path: str, body: bytes, flags: int) -> None:
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    with open(descriptor, "wb") as file:
        file.write(body)
        file.flush()
        with contextlib.suppress(OSError):  # A pipe has no disk to wait for.
            os.fsync(file.fileno())
