"""Every error names its line and what to do: bad files, each with the text that it gets."""

import os
from pathlib import Path

import pytest

from lab.errors import InputError
from lab.topology.loader import load, loads
from lab.topology.problems import TopologyError

BAD = Path(__file__).parent / "bad"


@pytest.mark.parametrize("file", sorted(BAD.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_bad_file_gets_its_text(file, monkeypatch):
    monkeypatch.chdir(BAD)
    with pytest.raises(InputError) as caught:
        load(f"./{file.name}")
    assert f"{caught.value}\n" == file.with_suffix(".txt").read_text()
    assert caught.value.exit_code == 2


def test_each_problem_has_a_place_and_a_remedy():
    for file in BAD.glob("*.yaml"):
        with pytest.raises(TopologyError) as caught:
            load(file)
        for problem in caught.value.problems:
            assert problem.where.startswith(f"{file}:"), file
            assert problem.remedy, file
            assert problem.line > 0, file


def test_a_missing_file(tmp_path):
    (tmp_path / "double-nat.yaml").write_text("nodes: {}")
    with pytest.raises(InputError, match="no such file") as caught:
        load(tmp_path / "duble-nat.yaml")
    assert "did you mean 'double-nat.yaml'?" in caught.value.remedy


def test_a_folder(tmp_path):
    with pytest.raises(InputError, match="folder"):
        load(f"{tmp_path}/")


def test_a_file_below_a_file(tmp_path):
    (tmp_path / "a.yaml").write_text("nodes: {}")
    with pytest.raises(InputError, match="can't be read: Not a directory"):
        load(tmp_path / "a.yaml" / "b.yaml")


def test_a_file_without_permission(tmp_path, monkeypatch):
    file = tmp_path / "secret.yaml"
    file.write_text("nodes: {}")
    file.chmod(0)
    if os.access(file, os.R_OK):  # Root reads everything.
        file.unlink()
        file.symlink_to(file)
    with pytest.raises(InputError, match="can't be read"):
        load(file)


@pytest.mark.parametrize("data", [b"\x7fELF\x02\x01", b"\xff\xfe\x00n", b"nodes:\n  a\xe9: 1\n"])
def test_what_is_no_text(tmp_path, data):
    file = tmp_path / "data.yaml"
    file.write_bytes(data)
    with pytest.raises(InputError) as caught:
        load(file)
    assert str(file) in caught.value.where


def test_a_file_of_ten_megabytes_is_refused(tmp_path):
    file = tmp_path / "large.yaml"
    file.write_bytes(b"a: 1\n" * 2_000_000)
    with pytest.raises(InputError, match=r"9\.5 MiB.*at most 1 MiB") as caught:
        load(file)
    assert "count:" in caught.value.remedy


@pytest.mark.timeout(60)
def test_a_file_that_is_too_large_is_not_read(tmp_path):
    file = tmp_path / "huge.yaml"
    file.touch()
    os.truncate(file, 2**40)  # Sparse: it takes no room, and would take minutes to read.
    with pytest.raises(InputError, match="at most 1 MiB"):
        load(file)


def test_a_device_without_end_is_refused():
    with pytest.raises(InputError, match="more than 1 MiB"):
        load("/dev/zero")


def test_an_unknown_name_gets_the_nearest_shipped_one():
    with pytest.raises(InputError, match="no shipped topology is called 'duble-nat'") as caught:
        load("duble-nat")
    assert "did you mean 'double-nat'?" in caught.value.remedy
    assert "symmetric-pair" in caught.value.remedy


def test_a_name_that_is_also_a_file_says_how_to_mean_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("nodes: {}")
    with pytest.raises(InputError, match="no shipped") as caught:
        load("mine")
    assert "./mine" in caught.value.remedy


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 5000, "x" * 5000 + ".yaml"])
def test_paths_that_are_none(path):
    with pytest.raises(InputError):
        load(path)


def test_a_name_given_for_the_lab_is_checked():
    with pytest.raises(InputError, match="'Not A Name' can't be a name"):
        load("lan", name="Not A Name")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 500_000,
        "{" * 500_000,
        "- " * 500_000,
        "? " * 500_000,
        "a: &a {<<: *a}",
        "&a [*a]",
        '"' + "\\" * 100_000,
        "nodes: {" + ", ".join(f"n{i}: {{via: n{i + 1}}}" for i in range(3000)) + "}",
        "routers: {" + ", ".join(f"n{i}: {{via: n{(i + 1) % 3000}}}" for i in range(3000)) + "}",
        "nodes: {" + ", ".join(f"n{i}: {{via: internet, count: 10000}}" for i in range(3000)) + "}",
        "a: &a {" + ", ".join(f"k{i}: 1" for i in range(3000)) + "}\nb:\n"
        + "".join(f"  c{i}: {{<<: *a}}\n" for i in range(3000)),
        "9" * 100_000,
        "nodes: {a: {via: internet, cpus: " + "9" * 5000 + "}}",
        'nodes: {a: {via: internet, command: "' + "'" * 99_999 + '"}}',
    ],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_what_was_made_to_hang_is_refused_soon(text):
    with pytest.raises(InputError):
        loads(text, "t.yaml")


def test_a_trace_that_is_no_file_names_those_that_are(tmp_path):
    (tmp_path / "lte.down").write_text("5\n")
    text = "nodes: {{a: {{via: internet, link: {{trace: {}}}}}}}"
    with pytest.raises(TopologyError, match=r"'\.' is a folder.*\n.*files there: lte.down"):
        loads(text.format("."), str(tmp_path / "t.yaml"))
    with pytest.raises(TopologyError, match=r"no file './lte.dwn'\n.*did you mean 'lte.down'"):
        loads(text.format("./lte.dwn"), str(tmp_path / "t.yaml"))
    with pytest.raises(TopologyError, match="'/dev/zero' is a device or a pipe"):
        loads(text.format("/dev/zero"), str(tmp_path / "t.yaml"))
