"""Every NAT preset verifies, and a classifier that is not ours agrees, in a host behind each."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from verify_support import Running, lab_command, new_name

from lab.fabric import netns
from lab.topology.behaviour import Dependence
from lab.topology.presets import Presets
from lab.verify import verify
from lab.verify.peers import servers_of

pytestmark = pytest.mark.kernel

_MAPPING = re.compile(r"NAT with (.*) Mapping!")
_FILTERING = re.compile(r"NAT with (.*) Filtering!")


def discover(running: Running, host: str, server: str) -> tuple[str, str]:
    """What coturn's `turnutils_natdiscovery` calls mapping and filtering, in RFC 4787's words."""
    with netns.inside(running.paths.netns(host)):
        process = subprocess.Popen(
            ["turnutils_natdiscovery", "-m", "-f", server],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    try:
        text, _ = process.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    words = []
    for pattern in (_MAPPING, _FILTERING):
        found = pattern.search(text)
        assert found, text
        words.append(found[1].lower().replace(" and ", "-and-").replace(" ", "-"))
    return words[0], words[1]


@pytest.mark.skipif(not shutil.which("turnutils_natdiscovery"), reason="needs coturn's tools")
def test_coturn_agrees_over_every_preset(tmp_path: Path) -> None:
    nats = {name: preset.behaviour for name, preset in Presets().nat.items() if preset.behaviour}
    routers = "".join(f"  r-{name}: {{nat: {name}}}\n" for name in nats)
    hosts = "".join(f"  h-{name}: {{via: r-{name}, peer: true}}\n" for name in nats)
    file = tmp_path / "presets.yaml"
    file.write_text(
        f"name: presets\nrouters:\n{routers}"
        f"nodes:\n  stun: {{via: internet, service: stun}}\n{hosts}"
    )
    name = new_name("presets")
    try:
        running = Running.up(tmp_path / "s", str(file), name)
        report = verify(running.plan, running.paths)
        assert report.ok, report.differences
        by_node = {one.node: one for one in report.peers}
        (server,) = servers_of(running.plan)
        with ThreadPoolExecutor(len(nats)) as pool:
            foreign = dict(
                zip(
                    nats,
                    pool.map(
                        lambda preset: discover(running, f"h-{preset}", server.first.address), nats
                    ),
                    strict=True,
                )
            )
        for preset, nat in nats.items():
            ours = by_node[f"h-{preset}"]
            assert foreign[preset] == (nat.mapping, nat.filtering), preset
            assert (ours.mapping, ours.filtering) == foreign[preset], preset
        assert {nat.filtering for nat in nats.values()} == set(Dependence)
    finally:
        lab_command(tmp_path / "s", "down", name, "--quiet")
