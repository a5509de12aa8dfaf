"""The report as a page: complete, readable without any other file, and safe to open."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

import keras_bnguard
from keras_bnguard.errors import MissingExtraError
from keras_bnguard.records import DriftSnapshot, Finding, Outcome, OutcomeStatus
from keras_bnguard.report import html
from keras_bnguard.statistics.drift import MAX_DISTANCE
from tests.builders.reports import (
    DRIFTED,
    IGNORED,
    MENDED,
    NEWS,
    PHASES,
    SCRIPT,
    UPDATED,
    Page,
    epoch_end,
    faulty,
    hostile,
    mode_rows,
    plain,
    reports,
    snapshots,
)

needs_extra = pytest.mark.needs_extra


def page(report, phases=()):
    return Page(html.render(report, phases))


@needs_extra
@pytest.mark.parametrize(
    ("findings", "words", "state"),
    [
        ((), "nothing found", "clear"),
        ((NEWS,), "nothing found", "clear"),
        ((DRIFTED,), "check the findings before you trust this run: 1 warning", "warning"),
        ((DRIFTED, UPDATED), "do not trust this run: 1 error, 1 warning", "error"),
        ((MENDED,), "1 repaired, none left", "clear"),
    ],
)
def test_the_verdict_stands_first_in_words_and_colour(findings, words, state):
    shown = page(plain(*findings))
    assert shown.inside("h1") == f"{html.MARKS[state]} {words[0].upper()}{words[1:]}"
    assert shown.inside("title") == f"net: {words} - keras_bnguard"
    assert ("header", {"class": f"verdict {state}"}) in shown.tags
    assert "keras 3.15.1 on jax" in shown.inside("header")


@needs_extra
def test_a_page_needs_nothing_from_anywhere():
    for text in (html.render(faulty(), PHASES), html.render(hostile()), html.fragment(faulty())):
        assert "http://" not in text
        assert "https://" not in text
        assert "url(" not in text
        assert "@import" not in text
        attributes = {name for _, attrs in Page(text).tags for name in attrs}
        assert not attributes & {"src", "srcset", "data", "action", "poster"}
        links = [attrs["href"] for _, attrs in Page(text).tags if "href" in attrs]
        assert all(link.startswith("#doc-BNG") for link in links)
        assert Page(text).count("link") == 0


@needs_extra
def test_the_browser_may_run_this_script_and_no_other():
    text = html.render(faulty())
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (a["content"] for t, a in Page(text).tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy


@needs_extra
def test_names_are_shown_and_never_run():
    phases = [{"epoch": 0, "phase": SCRIPT, "learning_rate": None, "logs": {SCRIPT: SCRIPT}}]
    text = html.render(hostile(), phases)
    shown = Page(text)
    assert shown.count("script") == 1
    assert SCRIPT not in text
    assert SCRIPT in shown.inside("h3")
    assert f"backbone/{SCRIPT}" in shown.inside("li")
    assert SCRIPT in shown.inside("th")
    assert SCRIPT in shown.inside("dd")
    assert not any(name.startswith("on") for _, attrs in shown.tags for name in attrs)
    assert Page(html.fragment(hostile())).count("script") == 0


@needs_extra
def test_control_characters_become_visible():
    text = html.render(plain(notes=("a\x1b[31m\u202eb\ud800",)))
    assert "a\\x1b[31m\\u202eb\\ud800" in text
    text.encode("utf-8")


@needs_extra
def test_a_finding_has_its_numbers_its_layers_and_its_fix():
    shown = page(faulty())
    assert "BNG201 flag-changed-after-compile" in shown.text
    assert "goes on with the flags of the first step." in shown.text
    assert 'model.compile(optimizer="adam", loss="mse")' in shown.inside("pre")
    assert "at train.py:41" in shown.text
    assert "Found at end of epoch 2" in shown.text
    for path in IGNORED.layers:
        assert path in shown.inside("ul")
    assert "4 more layers" in shown.inside("summary")
    assert "flags compiled yes" in shown.text
    assert "shift 0.3" in shown.text


@needs_extra
def test_what_follows_from_a_finding_stands_under_it():
    shown = page(faulty())
    titles = shown.inside("h3")
    assert titles.index("BNG201") < titles.index("BNG406") < titles.index("BNG101")
    assert "BNG404" in shown.inside("h4")
    assert "BNG404" not in titles
    assert "Which led to" in shown.inside("article")


@needs_extra
def test_a_repaired_finding_is_marked():
    shown = page(plain(MENDED))
    assert "repaired" in shown.inside("h3")
    assert "error" not in shown.inside("h3")
    assert "Before the repair:" in shown.text
    assert "Fix" not in shown.text.split("What the codes mean")[0].split("Findings")[1]
    assert "Repaired: forced" in shown.text
    assert ("article", {"class": "finding clear"}) in shown.tags


@needs_extra
def test_the_mode_table_has_a_row_for_every_layer():
    shown = page(plain(modes=mode_rows()))
    assert shown.inside("thead") == "BN layerflagexpectedruns heremomentumstatisticswhy"
    for mode in mode_rows():
        assert mode.path in shown.inside("tbody")
        assert mode.why in shown.inside("tbody")
    assert "inference (forced)" in shown.inside("tbody")
    assert "not built" in shown.inside("tbody")
    assert "<--" not in shown.text


@needs_extra
def test_only_rows_that_differ_are_marked_and_not_by_colour_alone():
    rows = mode_rows()
    wrong = sum(not row.agrees for row in rows)
    assert wrong
    shown = page(plain(modes=rows))
    assert shown.tags.count(("tr", {"class": "differs"})) == wrong
    assert shown.inside("tbody").count("not as expected") == wrong


@needs_extra
def test_drift_of_200_layers_has_a_row_each_and_as_many_checks_as_fit():
    text = html.render(plain(drift=snapshots(200, 60)))
    shown = Page(text)
    assert "24 of 60 checks are shown." in shown.text
    cells = re.findall(r'<td class="h[0-4]">', text)
    assert len(cells) == 3 * 200 * 24
    assert "end of epoch 1" in shown.inside("thead")
    assert "end of epoch 60" in shown.inside("thead")
    assert "backbone/block200_bn" in shown.inside("tbody")
    assert len(text) < 2_000_000


@needs_extra
def test_the_shade_of_drift_follows_the_number():
    values = {"a": 0.0, "b": 0.01, "c": 0.1, "d": 0.3, "e": 7.0, "f": float("nan")}
    first = DriftSnapshot(epoch_end(0), 0, 1, {}, values)
    last = DriftSnapshot(epoch_end(1), 1, 2, {}, {**values, "g": 0.5})
    text = html.render(plain(drift=(first, last)))
    for shade, value in [("h0", "0"), ("h1", "0.01"), ("h2", "0.1"), ("h3", "0.3"), ("h4", "7")]:
        assert text.count(f'<td class="{shade}">{value}</td>') == 2
    assert text.count('<td class="bad">nan</td>') == 2
    assert text.count('<td class="none">-</td>') == 1
    assert "Change of the moving variance" not in text


@needs_extra
def test_what_was_not_checked_is_listed_with_its_reason():
    shown = page(faulty())
    assert "Not checked: BNG501, BNG502" in shown.inside("dt")
    assert "BNGuard(data=...)" in shown.inside("dd")
    assert "Not selected: BNG103" in shown.inside("dt")
    assert "BNG405" in shown.inside("dd")
    assert "BNG102" in shown.inside("dd")


@needs_extra
def test_nothing_found_is_not_the_same_as_everything_checked():
    shown = page(plain(outcomes=(Outcome("BNG601", OutcomeStatus.SKIPPED, "needs O"),)))
    assert "Nothing found; 1 rule not checked" in shown.inside("h1")
    assert "None. See below for what was not checked." in shown.text
    assert "Nothing is known of any rule" in page(plain()).text


@needs_extra
def test_phases_are_shown_epoch_by_epoch():
    shown = page(plain(), PHASES)
    table = shown.inside("table")
    assert "epochphaselearning ratetrainablelossval_lossaccuracy" in table
    assert "1head only0.0011.25 %1.25nan-" in table
    assert "2all of it-100 %0.5-0.75" in table
    assert "Phases" not in page(plain()).text


@needs_extra
def test_notes_and_repairs_are_shown():
    shown = page(faulty())
    assert "the guard could not read 1 layer" in shown.inside("pre")
    assert "BNG101: mended/bn forced into inference mode" in shown.inside("li")


@needs_extra
@given(reports)
@settings(max_examples=60)
def test_any_report_becomes_a_page_that_is_well_formed(report):
    text = html.render(report, PHASES)
    text.encode("utf-8")
    assert Page(text).count("script") == 1
    assert Page(html.fragment(report)).count("script") == 0


def test_without_jinja2_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'keras_bnguard\[report\]'"):
        html.render(plain())


STYLE = Path(html.__file__).parent / "templates" / "style.css"
ON = [("text", "back"), ("soft", "back"), ("text", "panel"), ("soft", "panel"), ("info", "back")]
ON += [(name, f"{name}-back") for name in ("error", "warning", "info", "clear")]
ON += [("text", f"{name}-back") for name in ("error", "warning", "info", "clear")]
ON += [(f"h{i}t", f"h{i}") for i in range(5)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("pair", ON, ids="-on-".join)
def test_every_text_stands_out_from_what_it_is_on(scheme, pair):
    """WCAG 2.1, 1.4.3: a contrast of at least 4.5 to 1."""
    light, dark = STYLE.read_text(encoding="utf-8").split("prefers-color-scheme: dark", 1)
    colours = dict(re.findall(r"--(\w[\w-]*):\s*#([0-9a-f]{6})", light))
    if scheme == "dark":
        colours.update(re.findall(r"--(\w[\w-]*):\s*#([0-9a-f]{6})", dark))

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lower, upper = sorted(luminance(colours[name]) for name in pair)
    assert (upper + 0.05) / (lower + 0.05) >= 4.5


@needs_extra
def test_headings_skip_no_level():
    levels = [int(n) for n in re.findall(r"<h([1-6])", html.render(faulty(), PHASES))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))


@needs_extra
def test_each_alternative_has_a_copy_button_of_its_own_and_prose_stands_outside():
    fix = "do this:\n    a = 1\n    if a:\n        b = 2\nor that:\n    c = 3\nor nothing"
    shown = html.render(plain(Finding("BNG201", "n", "error", (), "m", fix)))
    codes = re.findall(
        r'<button[^>]*class="copy"[^>]*>Copy</button>\s*<pre[^>]*>(.*?)</pre>', shown, re.S
    )
    assert codes == ["a = 1\nif a:\n    b = 2", "c = 3"]
    for prose in ("do this:", "or that:", "or nothing"):
        assert f'<p class="text">{prose}</p>' in shown


@needs_extra
def test_equal_rows_of_the_mode_table_are_folded():
    modes = tuple(replace(mode_rows()[0], path=f"backbone/block{i}_bn") for i in range(52))
    shown = html.render(plain(modes=modes))
    assert shown.count('<th scope="row"><code>') == 1
    assert "backbone/* (52 BN)" in shown
    assert all(f"<code>{mode.path}</code>" in shown for mode in modes)


@needs_extra
def test_a_code_links_to_the_doc_of_its_rule_on_the_same_page():
    shown = page(
        plain(
            Finding("BNG404", "n", "error", (), "m", ""),
            Finding("BNG999", "n", "info", (), "m", ""),
        )
    )
    links = [attrs["href"] for tag, attrs in shown.tags if tag == "a"]
    assert links == ["#doc-BNG404"]
    assert [attrs["id"] for _, attrs in shown.tags if "id" in attrs] == ["doc-BNG404"]
    assert "BNG404 frozen-statistics-updated" in shown.inside("summary")


@needs_extra
@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
def test_the_layers_that_drift_most_are_drawn_with_the_limit(factor):
    worst = {"a": 0.05, "b": 0.2, "c": 0.01, "d": 0.02, "e": 0.001, "f": float("nan")}
    drift = [
        DriftSnapshot(epoch_end(n), n, 10 * n, {p: v * n * factor for p, v in worst.items()})
        for n in (1, 2, 3)
    ]
    text = html.render(plain(drift=drift))
    lines = re.findall(r'<polyline class="c\d" points="([^"]*)"/>', text)
    assert len(lines) == 4
    assert "1 more layer below these" in text
    places = [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in lines]
    assert all(0 <= x <= 480 and 0 <= y <= 200 for line in places for x, y in line)
    assert [line[-1][1] for line in places] == sorted(line[-1][1] for line in places)
    (limit,) = re.findall(r'<line class="limit" .*y1="([0-9.]+)"', text)
    assert (places[0][-1][1] < float(limit)) == (0.6 * factor > MAX_DISTANCE)
    assert "limit of BNG406" in Page(text).inside("ul")


@needs_extra
def test_one_check_or_an_audit_has_no_lines():
    assert "<polyline" not in html.render(plain(drift=snapshots(3, 1)))
    assert "<polyline" not in html.render(plain())


@needs_extra
def test_a_page_has_its_date_its_script_and_the_version():
    shown = page(plain()).text
    assert re.search(r"Written 20[0-9]{2}-[0-9]{2}-[0-9]{2} ", shown)
    assert f"with keras_bnguard {keras_bnguard.__version__}" in shown
