"""What `lab explain` is given, before anything is asked of a lab."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest

from lab.cli.explain import _CHANGES, _commands, _which_lab
from lab.cli.main import cli
from lab.paths import LabPaths


def test_commands_are_for_the_lab_that_is_explained(tmp_path):
    paths = LabPaths(tmp_path / "homes")
    texts = ("nat reboot home-a", "lab move alice 'the cell'", "apply homes.yaml")
    assert _commands(texts, paths) == [
        ["nat", "reboot", "home-a", "--lab", "homes"],
        ["move", "alice", "the cell", "--lab", "homes"],
        ["apply", "homes.yaml", "--name", "homes"],
    ]


@pytest.mark.parametrize("name", _CHANGES)
def test_commands_take_the_option_that_says_which_lab(name):
    context = click.Context(cli)
    command = cli.get_command(context, name)
    orders = command.commands.values() if isinstance(command, click.Group) else [command]
    for order in orders:
        assert any(_which_lab(name) in one.opts for one in order.params), order.name


@pytest.mark.parametrize("text", ["", "lab", "status", "nat reboot 'home-a"])
def test_what_is_no_command_that_changes_a_network_is_named(tmp_path, text):
    with pytest.raises(click.UsageError) as caught:
        _commands((text,), LabPaths(tmp_path / "homes"))
    assert repr(text) in caught.value.message


def test_a_page_is_what_it_says_in_any_locale(tmp_path):
    code = r"import sys; from lab.cli.explain import _write; _write(sys.argv[1], '\u2192')"
    environment = os.environ | {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-X", "utf8=0", "-c", code, str(tmp_path / "page.html")]
    subprocess.run(command, env=environment, timeout=60, check=True)
    assert (tmp_path / "page.html").read_bytes() == "\N{RIGHTWARDS ARROW}".encode()
