"""`pytest -p keras_bnguard.pytest_plugin`: findings of every training in a test run.

Not registered by itself: naming it with `-p`, or in `addopts`, is how it is switched on.
"""

from __future__ import annotations

from typing import Any, Dict, List

import pytest

from keras_bnguard.auto import AutoWarnings, collect_findings, disable_warnings
from keras_bnguard.auto.failing import failing
from keras_bnguard.auto.options import add_options, project_settings
from keras_bnguard.errors import BNGuardError

TITLE = "keras_bnguard"
KEYS = ("select", "ignore", "report", "fail_on")
"""Settings that have an option."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup(TITLE, "findings about BatchNormalization")
    add_options(group.addoption, "--bnguard-", KEYS)


def pytest_configure(config: pytest.Config) -> None:
    given = {key: config.getoption(f"bnguard_{key}") for key in KEYS}
    try:
        settings = project_settings(given, folder=str(config.rootpath))
    except BNGuardError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(_Seen(collect_findings(settings)), "keras_bnguard_seen")


def pytest_unconfigure(config: pytest.Config) -> None:
    disable_warnings()


class _Seen:
    """Which test every report came from, and the summary at the end."""

    def __init__(self, state: AutoWarnings) -> None:
        self.state = state
        self.found: List[Any] = []

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        before = {id(report) for report in self.state.reports()}
        yield
        self.state.finish()
        for report in self.state.reports():
            if id(report) not in before:
                self.found += [(item.nodeid, finding) for finding in report.findings]

    def _bad(self) -> List[Any]:
        return failing((finding for _, finding in self.found), self.state.settings.fail_on)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._bad() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        from keras_bnguard.report.several import merged

        settings = self.state.settings
        reports = self.state.reports()
        if settings.report:
            merged(reports).save(settings.report)
        shown = [(test, f) for test, f in self.found if f.severity != "info"]
        if not shown and not self.state.faults:
            return
        from keras_bnguard.report.text import finding_text

        terminalreporter.section(TITLE)
        tests_of: Dict[str, List[str]] = {}
        for test, finding in shown:
            tests_of.setdefault(finding_text(finding), []).append(test)
        for text, tests in tests_of.items():
            names = list(dict.fromkeys(tests))
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            terminalreporter.write_line(f"{names[0]}{more}")
            terminalreporter.write_line(text)
            terminalreporter.write_line("")
        if self._bad():
            terminalreporter.write_line(
                f"{len(self._bad())} findings; --bnguard-fail-on={settings.fail_on} fails the run"
            )
        for fault in self.state.faults[:1]:
            terminalreporter.write_line(f"keras_bnguard failed: {fault}")
