"""The report file of a guard: tried when the guard is made; what fails later is one warning."""

from __future__ import annotations

import warnings

import pytest

from keras_bnguard.errors import BNGuardWarning, InternalErrorWarning, SettingError
from keras_bnguard.guard.report_sink import ReportSink
from tests.builders.reports import plain


def test_a_path_that_cannot_be_written_is_an_error_before_training(tmp_path):
    path = tmp_path / "r.json"
    path.mkdir()
    with pytest.raises(SettingError, match="cannot be written"):
        ReportSink(str(path), None)


def test_a_report_that_can_no_longer_be_written_is_one_warning_and_no_error(tmp_path):
    path = tmp_path / "r.json"
    sink = ReportSink(str(path), None)
    path.mkdir()
    with pytest.warns(BNGuardWarning, match=r"r\.json could not be written") as seen:
        sink.finish(plain())
    assert [each.category for each in seen] == [BNGuardWarning]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sink.finish(plain())
    assert InternalErrorWarning not in [each.category for each in seen]
