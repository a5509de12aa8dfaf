"""What was found while warnings are on, in which run of which model, and how it is reported."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Optional, Set, Tuple

from keras_bnguard.errors import FaultBarrier
from keras_bnguard.settings import Settings

if TYPE_CHECKING:  # Loading the records loads NumPy, before the script has asked for it.
    from keras_bnguard.records import Finding
    from keras_bnguard.report.report import Report
    from keras_bnguard.report.several import MergedRuns

KEEP_RUNS = 500
"""So many reports are kept whole; older ones are merged into one."""


def ignore(report: Report) -> None:
    """Nobody is to be called with it."""


class RunLog:
    """The settings, and all that was seen under them.

    Attributes:
        lock: the one lock of all that is known while warnings are on.
        on: whether warnings are on.
        settings: the settings that count now.
        by_warning: report a finding as a `BNGuardWarning` where the settings leave it open;
            otherwise only collect it.
        collected: gets each report of a run that has ended.
        barrier: notes internal errors; warnings stay on after one.
        unseen: what could not be seen, one line each.
        missing: what cannot be watched at all, one line each.
        reports: the reports of the runs that ended last, oldest first.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.on = False
        self.settings = Settings()
        self.by_warning = True
        self.collected: Callable[[Report], None] = ignore
        self.barrier = FaultBarrier(goes_on=True)
        self.unseen: Set[str] = set()
        self.missing: List[str] = []
        self.reports: List[Report] = []
        self._earlier: Optional[MergedRuns] = None
        self._emitted: Dict[int, Tuple[Any, Set[Any]]] = {}
        self._numbers: Dict[int, Tuple[Any, int]] = {}
        self._newest: weakref.WeakKeyDictionary[Any, Report] = weakref.WeakKeyDictionary()
        self._outside: weakref.WeakKeyDictionary[Any, Set[Any]] = weakref.WeakKeyDictionary()

    def clear(self) -> None:
        """Forget the reports and what was emitted."""
        self.reports.clear()
        self.unseen.clear()
        self._earlier = None
        self._emitted.clear()
        self._outside.clear()
        self.missing.clear()

    def note_missing(self, line: str) -> bool:
        """Something cannot be watched: a line of every report from now on. False if known."""
        if line in self.missing:
            return False
        self.missing.append(line)
        return True

    def unwatchable(self) -> bool:
        """Whether the training that begins cannot be watched; the reason is in `unseen` then."""
        from keras_bnguard.backends.graph_mode import GRAPH_MODE, any_in_graph_mode

        if not any_in_graph_mode():
            return False
        self.unseen.add(GRAPH_MODE)
        return True

    # ------------------------------------------------------------------ reports
    def collect(
        self, model: Any, report: Optional[Report], kind: str, line: Optional[str] = None
    ) -> None:
        """Keep a report.

        Args:
            model: the model.
            report: its report, None for none.
            kind: "fit" or "loop", for the note in the report.
            line: "file.py:41", where the run was started. Defaults to None.
        """
        if report is None:
            return
        with self.lock:
            from dataclasses import replace

            number = self._number(model)
            if number > 1 and kind == "fit":
                self._judge_again(model)
            note = f"{kind} {number} of this model" if number > 1 else kind
            found = tuple(seen_at(finding, line) for finding in report.findings)
            notes = (note, *(f"not watched: {line}" for line in self.missing), *report.notes)
            self.keep(replace(report, findings=found, notes=notes))
            self._newest[model] = self.reports[-1]
            self.collected(self.reports[-1])

    def collect_outside(
        self, model: Any, report: Report, note: str, line: Optional[str] = None
    ) -> None:
        """Keep a report of what was found outside training; it is no run of its model.

        Args:
            model: the model.
            report: its report.
            note: what was watched: "evaluate", "predict".
            line: "file.py:41", where. Defaults to None.
        """
        from dataclasses import replace

        with self.lock:
            found = tuple(seen_at(finding, line) for finding in report.findings)
            self.keep(replace(report, findings=found, notes=(note, *report.notes)))
            self._outside.setdefault(model, set()).update(map(_key_of, found))
            self.collected(self.reports[-1])

    def has_found(self, model: Any, finding: Finding) -> bool:
        """Whether a finding is in the newest report of a model, or was found outside training."""
        with self.lock:
            newest = self._newest.get(model)
            known = set(self._outside.get(model, ()))
            known.update(map(_key_of, () if newest is None else newest.findings))
            return _key_of(finding) in known

    def keep(self, report: Report) -> None:
        """Keep the report of a run that has ended, of this process or of another."""
        from keras_bnguard.report.several import MergedRuns

        with self.lock:
            self.reports.append(report)
            if len(self.reports) > KEEP_RUNS:
                if self._earlier is None:
                    self._earlier = MergedRuns()
                self._earlier.add(self.reports.pop(0))

    def _judge_again(self, model: Any) -> None:
        """A later `fit` of a model decides for the earlier ones where a rule counts all fits."""
        from dataclasses import replace

        from keras_bnguard.rules import ALL_RULES

        codes = {rule.code for rule in ALL_RULES if rule.over_all_fits}
        last = self._newest.get(model)
        for i, earlier in enumerate(self.reports):
            if earlier is last:
                self.reports[i] = replace(
                    earlier,
                    findings=tuple(f for f in earlier.findings if f.code not in codes),
                    outcomes=tuple(o for o in earlier.outcomes if o.code not in codes),
                )

    def all_runs(self, reports: Iterable[Report]) -> MergedRuns:
        """The runs whose reports are no longer kept, and these.

        Args:
            reports: newer reports, oldest first.
        """
        from keras_bnguard.report.several import MergedRuns

        total = MergedRuns() if self._earlier is None else self._earlier.copy()
        for report in reports:
            total.add(report)
        return total

    def _number(self, model: Any) -> int:
        """1 for the first run of a model, 2 for the second."""
        entry = self._numbers.get(id(model))
        number = entry[1] + 1 if entry is not None and entry[0]() is model else 1
        self._numbers[id(model)] = (weakref.ref(model, self._forget(self._numbers, model)), number)
        return number

    @staticmethod
    def _forget(table: Dict[int, Any], model: Any) -> Callable[[Any], None]:
        key = id(model)

        def forget(ref: Any) -> None:
            entry = table.get(key)
            if entry is not None and entry[0] is ref:
                table.pop(key, None)

        return forget

    # ------------------------------------------------------------------ emitting
    def emit(self, model: Any, finding: Finding, line: Optional[str] = None) -> None:
        """Emit a finding as the settings ask, once a model."""
        from keras_bnguard.guard.emit import Emitter

        finding = seen_at(finding, line)

        with self.lock:
            entry = self._emitted.get(id(model))
            if entry is None or entry[0]() is not model:
                entry = (weakref.ref(model, self._forget(self._emitted, model)), set())
                self._emitted[id(model)] = entry
            key = (finding.code, finding.layers, finding.repaired)
            if key in entry[1]:
                return
            entry[1].add(key)
        how = self.settings.on_finding
        if how is None and not self.by_warning:
            return
        Emitter(how or "warn")(finding)


def _key_of(finding: Finding) -> Tuple[str, Tuple[str, ...]]:
    return finding.code, finding.layers


def seen_at(finding: Finding, line: Optional[str]) -> Finding:
    """A finding with the line of the training it was seen in, where its cause has none."""
    if finding.source is not None or line is None:
        return finding
    from dataclasses import replace

    return replace(finding, source=line)
