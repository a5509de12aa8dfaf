"""`pytest -p keras_bnguard.pytest_plugin`: findings of every training in a test run.

Not registered by itself: naming it with `-p`, or in `addopts`, is how it is switched on.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from keras_bnguard.auto import collect_findings, disable_warnings
from keras_bnguard.auto.failing import failing
from keras_bnguard.auto.options import add_options, project_settings
from keras_bnguard.errors import BNGuardError
from keras_bnguard.records.report import Severity
from keras_bnguard.report.files import check_writable, not_written

TITLE = "keras_bnguard"
KEYS = ("select", "ignore", "report", "fail_on")
"""Settings that have an option."""
SEEN = "keras_bnguard_seen"
OUTSIDE = "outside of tests (conftest or a hook)"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup(TITLE, "findings about BatchNormalization")
    add_options(group.addoption, "--bnguard-", KEYS)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """A conftest may train while it is imported."""
    with contextlib.suppress(BNGuardError):  # Reported when pytest is configured.
        _switch_on(early_config, early_config.known_args_namespace)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    try:
        _switch_on(config, config.option)
    except BNGuardError as error:
        raise pytest.UsageError(str(error)) from None


def _switch_on(config: pytest.Config, options: Any) -> None:
    if config.pluginmanager.has_plugin(SEEN):
        return
    given = {key: getattr(options, f"bnguard_{key}", None) for key in KEYS}
    settings = project_settings(given, folder=str(config.rootpath))
    config.pluginmanager.register(_Seen(settings), SEEN)


def pytest_unconfigure(config: pytest.Config) -> None:
    disable_warnings()


class _Seen:
    """Where every report came from, and the summary at the end."""

    def __init__(self, settings: Any) -> None:
        self.found: List[Tuple[str, Any]] = []
        self.place = OUTSIDE
        self.state = collect_findings(settings, self._note)

    def _note(self, report: Any) -> None:
        self.found += [(self.place, finding) for finding in report.findings]

    @contextlib.contextmanager
    def _inside(self, place: str) -> Iterator[None]:
        self.state.finish()  # A loop that is going on belongs to where it began.
        outer, self.place = self.place, place
        try:
            yield
        finally:
            self.state.finish()
            self.place = outer

    # ------------------------------------------------------------------ where it trains
    def pytest_report_header(self) -> List[str]:
        """The report's path is tried before anything trains; tests run in any case."""
        path = self.state.settings.report
        try:
            if path:
                check_writable(path)
        except BNGuardError as error:
            return [f"{TITLE}: {error}"]
        return []

    @pytest.hookimpl(hookwrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Any:
        with self._inside(f"{collector.nodeid or 'tests'} (while it was collected)"):
            yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        with self._inside(item.nodeid):
            yield

    # ---------------------------------------------------------------------- summary
    def _bad(self) -> List[Any]:
        return failing((finding for _, finding in self.found), self.state.settings.fail_on)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.state.finish()
        if self._bad() and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        from keras_bnguard.report.text import finding_text

        shown = [(test, f) for test, f in self.found if f.severity is not Severity.INFO]
        problems = [*self._unwritten(), *self.state.unseen]
        problems += [f"keras_bnguard failed: {fault}" for fault in self.state.faults[:1]]
        if not shown and not problems:
            return
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
                f"{len(self._bad())} findings; --bnguard-fail-on={self.state.settings.fail_on} "
                "fails the run"
            )
        for problem in problems:
            terminalreporter.write_line(problem)

    def _unwritten(self) -> List[str]:
        """Write the report, where one is asked for; why it could not be written."""
        path = self.state.settings.report
        if path:
            try:
                self.state.all_runs().report(self.state.unseen).save(path)
            except OSError as error:
                return [not_written(path, error)]
            except BNGuardError as error:
                return [str(error)]
        return []
