"""The settings of a project, read and checked, and as options of a command line."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Optional, Sequence

from keras_bnguard.report.formats import ENDINGS, format_of
from keras_bnguard.settings import SETTINGS, Settings, read_settings


def project_settings(
    arguments: Optional[Mapping[str, Any]] = None, folder: Optional[str] = None
) -> Settings:
    """The settings that count here, the report's file ending checked too.

    Args:
        arguments: settings that were passed by hand; None means not passed.
        folder: where to look for files first, then upwards. Defaults to the working directory.

    Raises:
        SettingError: an unknown key, or a value that is not of its kind; names the place.
        MissingExtraError: an HTML report without jinja2, or a `[tool.bnguard]` table that this
            Python cannot read.
    """
    return read_settings(arguments, folder, checks={"report": format_of})


def add_options(add: Callable[..., Any], prefix: str, keys: Sequence[str]) -> None:
    """Add settings as options; what is not passed is None.

    Args:
        add: `parser.add_argument` of argparse, or `group.addoption` of pytest.
        prefix: start of every option, such as `--bnguard-`.
        keys: the settings to add, in order.
    """
    for key in keys:
        setting = SETTINGS[key]
        help_text = setting.help.format(endings=", ".join(ENDINGS))
        if setting.metavar:
            add(option_name(prefix, key), metavar=setting.metavar, help=help_text)
        else:
            add(option_name(prefix, key), action="store_true", default=None, help=help_text)


def option_name(prefix: str, key: str) -> str:
    """The option of a setting: `--fail-on` for `fail_on`."""
    return prefix + key.replace("_", "-")


def usage(prefix: str, keys: Sequence[str]) -> str:
    """Settings as they stand in a usage line: `[--select CODES] [--fix]`."""
    return " ".join(
        f"[{' '.join(filter(None, (option_name(prefix, key), SETTINGS[key].metavar)))}]"
        for key in keys
    )
