"""What a project says once for every run: arguments, BNGUARD, pyproject.toml, setup.cfg.

One key means the same in all four places. The first place that has a key wins:
arguments, then the environment variable, then `[tool.bnguard]`, then `[bnguard]`. The two
files are those of the nearest directory upwards where one of them has its table.
"""

from __future__ import annotations

import os
import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from keras_bnguard.errors import MissingExtraError, SettingError

ENVIRONMENT = "BNGUARD"
FAIL_ON = ("error", "warning")
REPORT_ENDINGS = (".html", ".json", ".sarif", ".txt")
YES = {"true", "yes", "on", "1"}
NO = {"false", "no", "off", "0"}


class Settings(NamedTuple):
    """Settings of one project or one call; None or the default where nobody said anything.

    select: codes or prefixes. ignore: code or prefix -> layer globs, () means everywhere.
    every: "epoch" or a number of batches. fix: repair what is safe. fail_on: "error" or
    "warning". report: a file to write. on_finding: as in `BNGuard`; None: nobody said.
    """

    select: Optional[Tuple[str, ...]] = None
    ignore: Optional[Mapping[str, Tuple[str, ...]]] = None
    every: Union[str, int] = "epoch"
    fix: bool = False
    fail_on: Optional[str] = None
    report: Optional[str] = None
    on_finding: Union[str, Callable[[Any], Any], None] = None


KEYS = Settings._fields


def read_settings(
    arguments: Optional[Mapping[str, Any]] = None,
    folder: Optional[str] = None,
    environment: Optional[Mapping[str, str]] = None,
) -> Settings:
    """The settings that count here.

    Args:
        arguments: what was passed by hand; keys whose value is None do not count.
        folder: where to look for files first, then upwards. Defaults to the working directory.
        environment: defaults to `os.environ`.

    Raises:
        SettingError: an unknown key or a value that is not of its kind; names the place.
        MissingExtraError: a `[tool.bnguard]` table that this Python cannot read.
    """
    environ = os.environ if environment is None else environment
    places: List[Tuple[str, Mapping[str, Any]]] = [
        ("arguments", {k: v for k, v in (arguments or {}).items() if v is not None}),
        (ENVIRONMENT, parse_line(environ.get(ENVIRONMENT, ""))),
        *_files(os.path.abspath(folder or os.getcwd())),
    ]
    values: Dict[str, Any] = {}
    for place, found in places:
        for key, value in found.items():
            checked = _checked(key, value, place)
            values.setdefault(key, checked)
    return Settings(**values)


def parse_line(line: str) -> Dict[str, Any]:
    """The form of the environment variable: `select=BNG2,BNG404;ignore=BNG404:siamese/*`.

    Keys are parted by `;` or `,`; what follows a `,` without a `=` goes on with the key before.
    """
    found: Dict[str, Any] = {}
    for group in line.replace("\n", ";").split(";"):
        key = ""
        for item in group.split(","):
            item = item.strip()
            if not item:
                continue
            name, equals, value = item.partition("=")
            if equals:
                key = name.strip()
                found[key] = value.strip()
            elif key:
                found[key] = f"{found[key]},{item}"
            else:
                raise SettingError(
                    f"{ENVIRONMENT}={line!r}: expected key=value before {item!r}, as in "
                    f"{ENVIRONMENT}='select=BNG2,BNG404;ignore=BNG404:siamese/*;fail_on=error'."
                )
    return found


# ----------------------------------------------------------------------- files
def _files(folder: str) -> List[Tuple[str, Mapping[str, Any]]]:
    while True:
        found = []
        for name, read in (("pyproject.toml", _pyproject), ("setup.cfg", _setup_cfg)):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                table = read(path)
                if table is not None:
                    found.append((path, table))
        parent = os.path.dirname(folder)
        if found or parent == folder:
            return found
        folder = parent


def _setup_cfg(path: str) -> Optional[Mapping[str, Any]]:
    text = _text(path)
    if "[bnguard]" not in text:
        return None
    import configparser

    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text, path)
    except configparser.Error as error:
        raise SettingError(f"{path}: {error}") from None
    return dict(parser.items("bnguard")) if parser.has_section("bnguard") else None


def _pyproject(path: str) -> Optional[Mapping[str, Any]]:
    text = _text(path)
    if not re.search(r"^\s*\[\s*tool\s*\.\s*\"?bnguard\"?\s*[].]|^\s*tool\.bnguard\b", text, re.M):
        return None
    toml = _toml(path)
    try:
        table = toml.loads(text).get("tool", {}).get("bnguard")
    except ValueError as error:
        raise SettingError(f"{path}: {error}") from None
    return table if isinstance(table, dict) else None


def _toml(path: str) -> Any:
    try:
        import tomllib

        return tomllib
    except ImportError:
        pass
    try:
        import tomli  # type: ignore[import-not-found, unused-ignore]

        return tomli
    except ImportError:
        raise MissingExtraError(
            f"{path} has a [tool.bnguard] table, and Python below 3.11 needs tomli to read it: "
            "pip install tomli. Or write the same keys into [bnguard] of setup.cfg."
        ) from None


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""  # Not ours to complain about: other tools read these files too.


# ---------------------------------------------------------------------- values
def _checked(key: str, value: Any, place: str) -> Any:
    if key not in KEYS:
        import difflib

        near = difflib.get_close_matches(key, KEYS, 2, 0.5)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise SettingError(f"{place}: no setting {key!r}.{meant} Known: {', '.join(KEYS)}.")
    try:
        return _READ[key](value)
    except (TypeError, ValueError) as error:
        raise SettingError(f"{place}: {key}={value!r}: {error}") from None


def _select(value: Any) -> Tuple[str, ...]:
    names = _items(value)
    _check_codes(names)
    return names


def _ignore(value: Any) -> Dict[str, Tuple[str, ...]]:
    globs: Dict[str, List[str]] = {}
    everywhere = set()
    if isinstance(value, Mapping):
        pairs = [(code, _items(paths)) for code, paths in value.items()]
    else:
        pairs = []
        for item in _items(value):
            code, colon, glob = item.partition(":")
            pairs.append((code.strip(), (glob.strip(),) if colon else ()))
    for code, paths in pairs:
        globs.setdefault(code, []).extend(paths)
        if not paths:
            everywhere.add(code)
    _check_codes(tuple(globs))
    return {code: () if code in everywhere else tuple(paths) for code, paths in globs.items()}


def _check_codes(names: Tuple[str, ...]) -> None:
    """By the files of the rules: loading the rules costs more than all else at start-up."""
    folder = os.path.join(os.path.dirname(__file__), "rules")
    codes = sorted(f[:6].upper() for f in os.listdir(folder) if re.match(r"bng\d{3}_", f))
    for name in names:
        if name != "ALL" and not any(code.startswith(name) for code in codes):
            raise ValueError(
                f"{name!r} is no rule code and no prefix of one; expected 'ALL', a prefix "
                f"such as 'BNG2', or one of {', '.join(codes)}"
            )


def _items(value: Any) -> Tuple[str, ...]:
    if isinstance(value, str):
        value = re.split(r"[,\n]", value)
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ValueError("expected a text or a list of texts")
    if not all(isinstance(item, str) for item in value):
        raise ValueError("expected a list of texts")
    return tuple(item.strip() for item in value if item.strip())


def _every(value: Any) -> Union[str, int]:
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    if value == "epoch" or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value  # type: ignore[no-any-return]
    raise ValueError("expected 'epoch' or a positive number of training batches")


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in YES | NO:
        return text in YES
    raise ValueError("expected true or false")


def _fail_on(value: Any) -> str:
    if value in FAIL_ON:
        return str(value)
    raise ValueError("expected 'error' or 'warning'")


def _report(value: Any) -> str:
    path = str(os.fspath(value))
    if path.lower().endswith(".html"):
        import importlib.util

        if importlib.util.find_spec("jinja2") is None:
            raise ValueError("HTML needs jinja2: pip install 'keras_bnguard[report]'")
    if path.lower().endswith(REPORT_ENDINGS):
        return path
    raise ValueError(f"expected a file name that ends in {', '.join(REPORT_ENDINGS)}")


def _on_finding(value: Any) -> Any:
    if callable(value) or value in ("warn", "raise", "log"):
        return value
    raise ValueError("expected 'warn', 'raise', 'log' or a function that takes the finding")


_READ: Dict[str, Callable[[Any], Any]] = {
    "select": _select,
    "ignore": _ignore,
    "every": _every,
    "fix": _bool,
    "fail_on": _fail_on,
    "report": _report,
    "on_finding": _on_finding,
}
