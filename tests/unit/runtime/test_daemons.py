"""What can be said of daemons without a kernel."""

from __future__ import annotations

import pytest

from lab.errors import MissingError
from lab.paths import LabPaths
from lab.plan.model import Daemon, Node, NodeKind
from lab.runtime import daemons


def test_a_missing_executable_is_reported_with_its_package():
    there = Daemon(name="shell", command=("sh",))
    missing = Daemon(name="proxy", command=("no-such-proxy", "-f"), package="real-proxy")
    node = Node(name="home", kind=NodeKind.ROUTER, daemons=(there, missing))
    daemons.demand([Node(name="home", kind=NodeKind.ROUTER, daemons=(there,))])
    with pytest.raises(MissingError) as raised:
        daemons.demand([node])
    assert "'home' runs no-such-proxy" in raised.value.message
    assert raised.value.remedy == "apt-get install real-proxy"


def test_files_and_command_name_the_daemons_folder(tmp_path):
    daemon = Daemon(
        name="proxy",
        command=("proxy", "-c", "{dir}/proxy.conf"),
        files=(("proxy.conf", "pid {dir}/pid; set { a, b }\n"),),
    )
    paths = LabPaths(tmp_path / "lab")
    folder = tmp_path / "lab" / "nodes" / "home" / "proxy"
    assert daemons.write_files(paths, "home", daemon) == ("proxy", "-c", f"{folder}/proxy.conf")
    assert (folder / "proxy.conf").read_text() == f"pid {folder}/pid; set {{ a, b }}\n"
