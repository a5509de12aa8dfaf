"""The findings of a run, and those that the user has not got yet."""

from __future__ import annotations

from keras_bnguard.guard.finding_queue import FindingQueue
from keras_bnguard.records import Finding, Severity


def finding(code):
    return Finding(code, "name", Severity.WARNING, ("bn",), "message", "fix")


def codes(findings):
    return [each.code for each in findings]


def test_each_finding_is_handed_out_once_and_kept():
    queue = FindingQueue()
    queue.add([finding("BNG101"), finding("BNG102")])
    assert codes(queue.take_new()) == ["BNG101", "BNG102"]
    assert queue.take_new() == ()
    queue.add([finding("BNG404")])
    assert codes(queue.take_new()) == ["BNG404"]
    assert codes(queue.all()) == ["BNG101", "BNG102", "BNG404"]


def test_a_repair_is_noted_before_and_after_a_finding_was_handed_out():
    queue = FindingQueue()
    queue.add([finding("BNG101")])
    queue.take_new()
    queue.add([finding("BNG102"), finding("BNG404")])
    queue.mark_repaired({"BNG101": "one", "BNG102": "two"})
    assert [each.repaired for each in queue.all()] == ["one", "two", None]
    assert [each.repaired for each in queue.take_new()] == ["two", None]
    assert codes(queue.unrepaired()) == ["BNG404"]
