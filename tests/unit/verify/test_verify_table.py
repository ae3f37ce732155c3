"""The report for people: at 100 columns it is whole, and each row can be read."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace
from rich.console import Console

from lab.verify.report import IPV6, Dimension, Finding, Report, Unmeasured, excused
from lab.verify.table import render, shown

PREFIX = "fd5c:8a31:77f0:1::/64 as 2a02:1:0:d309::/64, fd5c:8a31:77f0:2::/64 as 2a02:1:0:d30a::/64"
ALL = "everything"
EACH = "address-and-port-dependent"
REPORT = Report(
    lab="t",
    findings=(
        Finding("a-router-with-a-name", Dimension.PREFIX, "", PREFIX, PREFIX, ok=True, family=IPV6),
        Finding(
            "office",
            Dimension.PORT_MAPPING,
            "upnp",
            "refuses, as its address is not public",
            "refuses, as its address is not public",
            ok=True,
            detail="606 Action not authorized: the external address of the router is not public",
        ),
        Finding("home", Dimension.OUTBOUND, "udp tcp icmp", ALL, ALL, ok=True, family=IPV6),
        Finding("home", Dimension.FILTERING, "tcp", EACH, EACH, ok=True),
        Finding("home", Dimension.MAPPING, "udp", "endpoint-independent", "random", ok=False),
    ),
    unmeasured=(Unmeasured(node="far", why="its way out is down, " * 8, meant=True),),
)  # fmt: skip


@pytest.mark.parametrize("width", [100, 120])
def test_rows_are_folded_and_nothing_is_cut_off(width: int):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(shown(REPORT, width)[0])
    table = [line.rstrip() for line in capture.get().splitlines()]
    assert max(map(len, table)) <= width
    text = " ".join(table)
    for word in {
        word for one in REPORT.findings for word in f"{one.observed} {one.detail}".split()
    }:
        assert word in text, "whole words, so that they can be searched for"
    assert "…" not in text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_words_stay_whole_where_there_is_little_room(width: int):
    name = "internet.washington -- internet.frankfurt"
    report = replace(REPORT, findings=(replace(REPORT.findings[3], node=name),))
    console = Console(width=width)
    with console.capture() as capture:
        console.print(shown(report, width)[0], crop=False)
    text = capture.get()
    for word in (*name.split(), EACH, "dimension", "filtering"):
        assert word in text
    if width == 100:
        assert max(map(len, text.splitlines())) <= width


def test_what_is_written_to_a_file_is_as_wide(capsys: pytest.CaptureFixture[str]):
    render(REPORT)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[: lines.index("")])) <= 100
    far = next(line for line in lines if line.startswith("far "))
    assert far.count("its way out is down") == 8, "a sentence stays in one line"
    assert re.search(r" mapping +udp +endpoint-independent +. random", "\n".join(lines))


def test_what_differs_while_the_neighbour_table_was_full_is_distorted(
    capsys: pytest.CaptureFixture[str],
):
    assert excused(REPORT, 0) == REPORT
    assert not REPORT.ok
    report = excused(REPORT, 3)
    assert report.ok
    assert [one.dimension for one in report.distorted] == [Dimension.MAPPING]
    assert [one for one in report.findings if one.ok] == [one for one in REPORT.findings if one.ok]
    render(report)
    out = capsys.readouterr().out
    assert "? random" in out
    assert "neighbour table was full 3 times" in " ".join(out.split())
    assert out.splitlines()[-1].startswith("? 1 of what was measured is distorted")


def test_what_could_not_be_measured_is_not_alright_unless_the_lab_has_it_so(
    capsys: pytest.CaptureFixture[str],
):
    right = replace(REPORT, findings=REPORT.findings[:1])
    assert right.ok, "what is cut off need not be measured"
    report = replace(right, unmeasured=(Unmeasured(node="a -- b", why="its trace has changed"),))
    assert (report.ok, report.differences) == (False, ())
    render(report)
    lines = capsys.readouterr().out.splitlines()
    assert "a -- b could not be measured: its trace has changed" in lines
    assert lines[-1].startswith("✗ 1 of what is declared could not be measured, in ")
