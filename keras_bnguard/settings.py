"""Settings of a project: arguments, the variable BNGUARD, pyproject.toml, setup.cfg.

One key means the same in all four places. The first place that has a key wins: arguments, then
the environment variable, then `[tool.bnguard]`, then `[bnguard]`. The two files are those of the
nearest directory upwards where one of them has its table.
"""

from __future__ import annotations

import os
import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from keras_bnguard.errors import BNGuardError, MissingExtraError, SettingError

ENVIRONMENT = "BNGUARD"
FAIL_ON = ("error", "warning")
ON_FINDING = ("warn", "raise", "log")
YES = {"true", "yes", "on", "1"}
NO = {"false", "no", "off", "0"}


class Settings(NamedTuple):
    """Settings of one project or one call.

    Attributes:
        select: rule codes or prefixes to run. Defaults to None: all rules but info.
        ignore: rule code or prefix -> layer globs, an empty tuple for every layer. Defaults to
            None: nothing.
        every: "epoch", or the number of batches between two checks. Defaults to "epoch".
        fix: whether to repair what is safe. Defaults to False.
        fail_on: lowest severity that fails a run, "error" or "warning". Defaults to None: none.
        report: a file to write at the end. Defaults to None: no file.
        on_finding: "warn", "raise", "log" or a function of the finding. Defaults to None: the
            caller decides.
    """

    select: Optional[Tuple[str, ...]] = None
    ignore: Optional[Mapping[str, Tuple[str, ...]]] = None
    every: Union[str, int] = "epoch"
    fix: bool = False
    fail_on: Optional[str] = None
    report: Optional[str] = None
    on_finding: Union[str, Callable[[Any], Any], None] = None


def read_settings(
    arguments: Optional[Mapping[str, Any]] = None,
    folder: Optional[str] = None,
    environment: Optional[Mapping[str, str]] = None,
    checks: Optional[Mapping[str, Callable[[Any], object]]] = None,
) -> Settings:
    """The settings that count here.

    Args:
        arguments: settings that were passed by hand; None means not passed.
        folder: where to look for files first, then upwards. Defaults to the working directory.
        environment: environment variables. Defaults to `os.environ`.
        checks: key -> function that raises for a value this module cannot judge. Defaults to
            none.

    Raises:
        SettingError: an unknown key, or a value that is not of its kind; names the place.
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
            checked = _checked(key, value, place, (checks or {}).get(key))
            values.setdefault(key, checked)
    return Settings(**values)


def parse_line(line: str) -> Dict[str, Any]:
    """Read the environment variable: `select=BNG2,BNG404;ignore=BNG404:siamese/*`.

    Keys are separated by `;` or `,`; an item without `=` extends the list before it.

    Raises:
        SettingError: an item without a key before it.
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
def _checked(
    key: str, value: Any, place: str, check: Optional[Callable[[Any], object]] = None
) -> Any:
    if key not in SETTINGS:
        import difflib

        near = difflib.get_close_matches(key, SETTINGS, 2, 0.5)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise SettingError(f"{place}: no setting {key!r}.{meant} Known: {', '.join(SETTINGS)}.")
    try:
        read = SETTINGS[key].read(value)
    except (TypeError, ValueError) as error:
        raise SettingError(f"{place}: {key}={value!r}: {error}") from None
    if check is not None:
        try:
            check(read)
        except BNGuardError as error:
            raise type(error)(f"{place}: {error}") from None
    return read


def check_codes(names: Tuple[str, ...]) -> None:
    """Refuse a name that is no rule code.

    The codes are read from the names of the rules' files: loading the rules takes longer than
    all else at start-up.

    Args:
        names: codes or prefixes of codes, or "ALL".

    Raises:
        SettingError: a name that is no code and no prefix of one.
    """
    folder = os.path.join(os.path.dirname(__file__), "rules")
    codes = sorted(f[:6].upper() for f in os.listdir(folder) if re.match(r"bng\d{3}_", f))
    for name in names:
        if name != "ALL" and not any(code.startswith(name) for code in codes):
            raise SettingError(
                f"{name!r} is no rule code and no prefix of one. Expected 'ALL', a prefix such "
                f"as 'BNG2', or one of: {', '.join(codes)}."
            )


def _select(value: Any) -> Tuple[str, ...]:
    names = _items(value)
    check_codes(names)
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
    check_codes(tuple(globs))
    return {code: () if code in everywhere else tuple(paths) for code, paths in globs.items()}


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


def _fix(value: Any) -> bool:
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
    return str(os.fspath(value))


def _on_finding(value: Any) -> Any:
    if callable(value) or value in ON_FINDING:
        return value
    raise ValueError("expected 'warn', 'raise', 'log' or a function that takes the finding")


class Setting(NamedTuple):
    """One setting, as every place that offers it reads and describes it.

    Attributes:
        read: turns what was written into the value; ValueError for what it cannot be.
        help: one line for command lines; `{endings}` stands for the file endings of reports.
        metavar: what its value is called there. Defaults to "": a switch without a value.
    """

    read: Callable[[Any], Any]
    help: str
    metavar: str = ""


SETTINGS: Mapping[str, Setting] = {
    "select": Setting(_select, "rules to run: BNG2,BNG401 or ALL", "CODES"),
    "ignore": Setting(_ignore, "rules to ignore: BNG404, or BNG404:siamese/*", "CODES"),
    "every": Setting(_every, "check every N batches, or 'epoch'", "N"),
    "fix": Setting(_fix, "repair what is safe"),
    "fail_on": Setting(_fail_on, "fail on findings: error, or warning", "SEVERITY"),
    "report": Setting(_report, "write a report: {endings}", "FILE"),
    "on_finding": Setting(_on_finding, "warn, raise or log", "ACTION"),
}
"""Every setting by its key; the fields of `Settings`."""
