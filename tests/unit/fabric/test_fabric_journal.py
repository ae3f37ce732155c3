import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import LabError
from lab.fabric.journal import Entry, Journal, read


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lab" / "journal.jsonl"


def test_what_was_noted_is_read_in_order(path):
    journal = Journal.open(path)
    journal.note("netns", "demo.b")
    journal.note("container", "c1", image="peer", id="4f")
    journal.note("netns", "demo.a")
    assert read(path) == [
        Entry(kind="netns", name="demo.b"),
        Entry(kind="container", name="c1", more=(("image", "peer"), ("id", "4f"))),
        Entry(kind="netns", name="demo.a"),
    ]


def test_what_was_retracted_is_no_longer_ours(path):
    journal = Journal.open(path)
    journal.note("netns", "demo.a")
    journal.note("container", "demo.a")
    journal.retract("netns", "demo.a")
    assert not journal.holds("netns", "demo.a")
    assert journal.holds("container", "demo.a")
    assert [entry.kind for entry in read(path)] == ["container"]
    journal.note("netns", "demo.a")
    assert journal.holds("netns", "demo.a")
    assert len(read(path)) == 2


def test_no_journal_is_an_empty_one(path):
    assert read(path) == []


def test_a_note_is_in_the_file_before_the_call_returns(path):
    Journal.open(path).note("netns", "demo.a")
    assert path.read_bytes() == b'{"kind":"netns","name":"demo.a"}\n'


def test_a_journal_goes_on_where_it_ended(path):
    Journal.open(path).note("netns", "demo.a")
    again = Journal.open(path)
    assert again.holds("netns", "demo.a")
    again.note("netns", "demo.b")
    assert [entry.name for entry in read(path)] == ["demo.a", "demo.b"]


@given(cut=st.integers(min_value=1, max_value=31))
def test_a_torn_line_costs_only_itself(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("torn") / "journal.jsonl"
    journal = Journal.open(path)
    journal.note("netns", "demo.a")
    journal.note("netns", "demo.b")
    os.truncate(path, path.stat().st_size - 1 - cut)
    assert [entry.name for entry in read(path)] == ["demo.a"]
    Journal.open(path).note("netns", "demo.c")
    assert [entry.name for entry in read(path)] == ["demo.a", "demo.c"]


@given(garbage=st.binary(max_size=200))
def test_nothing_in_the_file_breaks_reading(tmp_path_factory, garbage):
    path = tmp_path_factory.mktemp("garbage") / "journal.jsonl"
    path.write_bytes(garbage)
    Journal.open(path).note("netns", "demo.a")
    assert read(path)[-1:] == [Entry(kind="netns", name="demo.a")]


def test_threads_do_not_mix_their_lines(path):
    journal = Journal.open(path)

    def note(first: int) -> None:
        for number in range(first, first + 200):
            journal.note("netns", f"demo.{number}")

    threads = [threading.Thread(target=note, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(path)) == 800


def test_a_full_disk_is_an_error_with_a_remedy():
    full = os.open("/dev/full", os.O_WRONLY | os.O_APPEND)
    journal = Journal(full, Path(os.devnull))
    with pytest.raises(LabError, match="No space left") as caught:
        journal.note("netns", "demo.a")
    assert "LAB_STATE_DIR" in caught.value.remedy
    assert not journal.holds("netns", "demo.a")
