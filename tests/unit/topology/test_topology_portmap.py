"""`port-mapping` in a file: what it may say, what becomes of it in a plan."""

from __future__ import annotations

import pytest

from lab.errors import InputError
from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.topology.behaviour import PortMapping
from lab.topology.loader import loads

BOTH = PortMapping(upnp=True, pcp=True)


def router(port_mapping: str, nat: str = "home"):
    text = f"""
name: mapped
routers:
  home:
    nat: {nat}
    port-mapping: {port_mapping}
nodes:
  alice: {{via: home, peer: true}}
"""
    topology = loads(text, "mapped.yaml")
    return topology.routers[0], compile_topology(topology, Machine(netem=True)).node("home")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("true", BOTH),
        ("false", None),
        ("[]", None),
        ("upnp", PortMapping(upnp=True)),
        ("pcp", PortMapping(pcp=True)),
        ("[nat-pmp, pcp]", PortMapping(pcp=True)),
        ("[upnp, nat-pmp]", BOTH),
        (
            "{protocols: upnp, min-lifetime: 1s, max-lifetime: 1h}",
            PortMapping(upnp=True, min_lifetime_s=1, max_lifetime_s=3600),
        ),
        (
            "{max-lifetime: 10s}",
            PortMapping(upnp=True, pcp=True, min_lifetime_s=10, max_lifetime_s=10),
        ),
    ],
)
def test_what_it_means(text: str, meaning: PortMapping | None):
    spec, node = router(text)
    assert spec.port_mapping == meaning
    assert node.port_mapping == meaning
    assert [daemon.name for daemon in node.daemons] == (["miniupnpd"] if meaning else [])


@pytest.mark.parametrize(
    ("text", "nat", "line", "said"),
    [
        ("bonjour", "home", 6, "'bonjour' is not a protocol"),
        ("{protocols: [upnp], lease: 1h}", "home", 6, "lease"),
        ("{min-lifetime: 2h, max-lifetime: 1h}", "home", 6, "the shortest lease, 7200s"),
        ("true", "none", 6, "no NAT whose ports could be asked for"),
    ],
)
def test_what_is_wrong_has_its_line(text: str, nat: str, line: int, said: str):
    with pytest.raises(InputError) as raised:
        router(text, nat)
    assert said in str(raised.value)
    assert f"mapped.yaml:{line}" in str(raised.value)


def test_the_daemon_is_told_what_the_file_says():
    _, node = router("{protocols: upnp, min-lifetime: 5s}")
    (daemon,) = node.daemons
    assert daemon.ready == ("tcp/5000", "udp/1900")
    text = dict(daemon.files)["miniupnpd.conf"]
    lines = text.splitlines()
    assert {"enable_upnp=yes", "enable_natpmp=no", "min_lifetime=5"} <= set(lines)
    other = dict(router("pcp")[1].daemons[0].files)["miniupnpd.conf"]
    assert {"enable_upnp=no", "enable_natpmp=yes", "max_lifetime=86400"} <= set(other.splitlines())
    # Equal seeds give equal devices.
    assert dict(router("true")[1].daemons[0].files) == dict(router("true")[1].daemons[0].files)
