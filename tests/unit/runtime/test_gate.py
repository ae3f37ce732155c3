"""The gate's script run by the real busybox, outside any container."""

import os
import subprocess
from pathlib import Path

import pytest

from lab.errors import MissingError
from lab.runtime import gate

BUSYBOX = Path("/bin/busybox")

needs_busybox = pytest.mark.skipif(
    not (BUSYBOX.exists() and gate.is_static(BUSYBOX)), reason="no static busybox"
)


def run(tmp_path, program, env, *, keep=True):
    """Run the gate with its folder moved to `tmp_path`; (exit code, output, what it reported)."""
    folder = tmp_path / "lab"
    folder.mkdir()
    line = gate.entrypoint(program, env)
    script = line[3].replace(gate.FOLDER + "/", f"{folder}/").replace(gate.SHELL, str(BUSYBOX))
    opener, reached = gate.make(folder)
    started = subprocess.Popen(
        [str(BUSYBOX), "sh", "-c", script, *line[4:]],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    try:
        os.set_blocking(reached, True)
        said = os.read(reached, 4096)
        assert said == b"0\n" or started.wait(60)
        if keep:
            os.write(opener, b"go\n")
    finally:
        os.close(opener)
        os.close(reached)
    out, _ = started.communicate(timeout=60)
    return started.returncode, out.decode(), said.decode().strip()


@needs_busybox
@pytest.mark.parametrize(
    "env",
    [
        {"PATH": "/usr/bin:/bin", "A": "1"},
        {"PATH": "/usr/bin:/bin", "a-b.c": 'it\'s "x" $y\n', "SHLVL": "7"},
        {"PATH": "/usr/bin:/bin", "__lab_x": "1", "name": "n", "IFS_": ","},
    ],
)
def test_the_environment_passes_unchanged(tmp_path, env):
    code, out, said = run(tmp_path, ["env", "-0"], env)
    assert (code, said) == (0, "0")
    got = dict(item.split("=", 1) for item in out.split("\0") if item)
    # The shell counts itself where it was told of a level.
    got.pop("SHLVL", None), env.pop("SHLVL", None)
    assert got == env


@needs_busybox
@pytest.mark.parametrize("arguments", [["a b", "", "'", '"$x"', "-c", "*"], []])
def test_arguments_pass_unchanged(tmp_path, arguments):
    show = tmp_path / "show"
    show.write_text('#!/bin/sh\nprintf "%s\\0" "$0" "$@"\n')
    show.chmod(0o755)
    _, out, _ = run(tmp_path, ["./show", *arguments], {"PATH": "/bin"})
    assert out.split("\0")[:-1] == ["./show", *arguments]


@needs_busybox
def test_the_program_is_called_by_the_name_it_was_given(tmp_path):
    _, out, _ = run(tmp_path, ["cat", "/proc/self/cmdline"], {"PATH": "/nowhere:/usr/bin:/bin"})
    assert out.split("\0")[0] == "cat"


@needs_busybox
def test_no_path_means_the_usual_one(tmp_path):
    code, _, said = run(tmp_path, ["true"], {})
    assert (code, said) == (0, "0")


@needs_busybox
@pytest.mark.parametrize(
    ("program", "code", "said"),
    [
        (["no-such"], 127, "127 no-such: not found in the image's PATH"),
        (["./no-such"], 127, "127 ./no-such: not found in the image"),
        (["/etc/passwd"], 126, "126 /etc/passwd: not executable"),
        ([], 127, "127 no program to run: neither the image nor the topology names one"),
    ],
)
def test_a_program_that_is_not_there_is_reported_before_the_gate(tmp_path, program, code, said):
    assert run(tmp_path, program, {"PATH": "/usr/bin"})[::2] == (code, said)


@needs_busybox
def test_a_gate_whose_keeper_dies_stays_shut(tmp_path):
    code, out, _ = run(tmp_path, ["echo", "no"], {"PATH": "/usr/bin:/bin"}, keep=False)
    assert (code, out) == (gate.ABANDONED, "")


def test_static_or_not(tmp_path):
    text = tmp_path / "text"
    text.write_text("#!/bin/sh\n")
    assert not gate.is_static(text)
    assert not gate.is_static(Path("/bin/sh").resolve())


def test_without_a_static_busybox_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(gate, "_BUSYBOX", ("/bin/sh", "/no/such"))
    with pytest.raises(MissingError, match="apt-get install busybox-static"):
        gate.busybox()
