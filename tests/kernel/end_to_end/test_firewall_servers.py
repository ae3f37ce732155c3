"""Resolver, web proxy and captive portal: the real programs, asked by real ones (curl, dig)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.kernel.end_to_end.support import Command

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        not all(map(shutil.which, ("dnsmasq", "tinyproxy", "curl"))),
        reason="dnsmasq, tinyproxy and curl are needed",
    ),
]

TOPOLOGY = """
routers:
  office: {nat: home, firewall: http-only}
  strict: {via: office, nat: home, firewall: {preset: http-only, proxy: {connect: false},
           outbound: {default: reject, rules: [reject tcp to 45.0.0.200]}}}
  corp: {nat: home, firewall: corporate}
  cafe: {nat: home, firewall: captive}
nodes:
  web: {via: internet, address: 45.0.0.100, ready: signal, command: [python3, -c, "%(web)s"]}
  hidden: {via: internet, address: 45.0.0.200, ready: signal, command: [python3, -c, "%(web)s"]}
  alice: {via: office, command: sleep 1000, firewall: http-only}
  anna: {via: strict, command: sleep 1000}
  bob: {via: corp, command: sleep 1000, firewall: corporate}
  carol: {via: cafe, command: sleep 1000}
  bare: {via: corp}
"""
WEB = (
    "import http.server as h, threading as t; "
    "s = [h.ThreadingHTTPServer((chr(48), p), h.SimpleHTTPRequestHandler) for p in (80, 443, 81)]; "
    "[t.Thread(target=x.serve_forever).start() for x in s]; "
    "print(__import__('json').dumps({'event': 'ready'}), flush=True)"
)


class Town:
    """The lab above, with `curl` in its nodes."""

    def __init__(self, lab: Command, folder: Path) -> None:
        self._lab = lab
        self._name = lab.name()
        file = folder / "town.yaml"
        file.write_text(TOPOLOGY % {"web": WEB})
        lab.ok("up", str(file), "--name", self._name)

    def lab(self, *command: str) -> None:
        """Carry out a command about this lab, which has to succeed."""
        self._lab.ok(*command, "--lab", self._name)

    def sh(self, node: str, script: str) -> str:
        """What a shell in `node` prints."""
        return self._lab.run(
            "exec", "--lab", self._name, node, "--", "sh", "-c", script
        ).stdout.strip()

    def curl(self, node: str, url: str, *options: str) -> str:
        """The status, and curl's own code if it failed: `200`, `000 7`."""
        words = " ".join(options)
        return self.sh(
            node,
            f"curl -sS -m 30 -o /dev/null -w '%{{http_code}}' {words} {url} || echo ' '$?",
        )

    def order(self, *arguments: str) -> None:
        self._lab.ok(*arguments, "--lab", self._name)


PROXY = "-x $LAB_PROXY"


def test_a_web_proxy_is_the_only_way_out(lab: Command, tmp_path: Path):
    town = Town(lab, tmp_path)
    assert town.curl("alice", "http://web/", PROXY) == "200"
    assert town.curl("alice", "http://web:81/", PROXY) == "200"
    # CONNECT: to port 443, and to no other.
    assert town.curl("alice", "http://web:443/", PROXY, "-p") == "200"
    assert town.sh("alice", "curl -sp -x $LAB_PROXY -w '%{http_connect}' http://web:81/") == "403"
    # Past the proxy nothing goes, neither at the host's firewall nor at the router's.
    assert town.curl("alice", "http://45.0.0.100/") == "000 7"
    assert town.curl("anna", "http://45.0.0.100/") == "000 7"
    # A proxy behind a proxy goes through it; this one opens no tunnels.
    assert town.curl("anna", "http://web/", PROXY) == "200"
    assert town.sh("anna", "curl -sp -x $LAB_PROXY -w '%{http_connect}' http://web:443/") == "403"
    assert town.sh("anna", "echo $LAB_PROXY").startswith("http://192.168.")
    # The host has no name server, and whoever asks the proxy needs none.
    assert town.sh("alice", "getent hosts web || echo none") == "none"
    # From outside nobody gets at it.
    assert town.sh("web", "curl -s -m 1 http://45.0.0.2:3128/ || echo $?") == "28"


def test_what_is_refused_by_name_is_refused_to_the_proxy(lab: Command, tmp_path: Path):
    command = f'[python3, -c, "{WEB}"]'
    file = tmp_path / "list.yaml"
    file.write_text(
        "routers: {office: {firewall: {proxy: true, outbound: {default: reject, "
        "rules: [reject tcp to 45.0.0.200]}}}}\n"
        "nodes:\n"
        f"  web: {{via: internet, address: 45.0.0.100, ready: signal, command: {command}}}\n"
        f"  hidden: {{via: internet, address: 45.0.0.200, ready: signal, command: {command}}}\n"
        "  alice: {via: office}\n"
    )
    name = lab.name()
    lab.ok("up", str(file), "--name", name)
    script = (
        "for to in web hidden; do curl -so /dev/null -w '%{http_code} ' -x $LAB_PROXY $to; done"
    )
    said = lab.ok("exec", "--lab", name, "alice", "--", "sh", "-c", script)
    assert said.split() == ["200", "500"]


def test_names_come_from_the_resolver_inside_and_from_no_other(lab: Command, tmp_path: Path):
    town = Town(lab, tmp_path)
    for node in ("bob", "bare"):
        assert town.sh(node, "getent ahostsv4 web").split()[0] == "45.0.0.100"
        assert town.sh(node, "getent hosts nobody || echo none") == "none"
    assert town.curl("bob", "http://web/") == "200"
    assert town.curl("bob", "http://web:443/") == "200"
    if shutil.which("dig"):
        dig = "dig +time=30 +tries=1 +short"
        for more in ("", "+tcp"):
            assert town.sh("bob", f"{dig} {more} web") == "45.0.0.100"
        assert "NXDOMAIN" in town.sh("bob", "dig nobody")
        # Another one is out of reach, were there one.
        assert "45.0.0.100" not in town.sh("bare", "dig +time=1 +tries=1 +short @45.0.0.200 web")


def test_a_captive_portal_lets_pass_who_has_accepted(lab: Command, tmp_path: Path):
    town = Town(lab, tmp_path)
    portal = town.sh("carol", "curl -s -o /dev/null -w '%{redirect_url}' http://web/any/page")
    assert portal.startswith("http://192.168.")
    assert town.curl("carol", portal) == "200"

    def state() -> dict[str, object]:
        """What the portal's API says (RFC 8908)."""
        said = town.sh("carol", f"curl -s -w '%{{content_type}}' {portal}api")
        text, kind = said.splitlines()
        assert kind == "application/captive+json"
        return json.loads(text)

    # What is not the web's port 80 can't be led anywhere: it is refused.
    assert town.curl("carol", "http://web:443/") == "000 7"
    assert state() == {"captive": True, "user-portal-url": portal}
    # Elsewhere there is no such API: whoever asks is led to the page.
    assert town.curl("carol", "http://web/api") == "302"
    assert "accepted" in town.sh("carol", f"curl -s -X POST {portal}accept")
    assert state() == {"captive": False, "user-portal-url": portal}
    assert town.curl("carol", "http://web/") == "200"
    assert town.curl("carol", "http://web:443/") == "200"
    # What changes the rules forgets nobody; a reboot does.
    town.lab("nat", "set", "cafe", "full-cone")
    assert town.curl("carol", "http://web:443/") == "200"
    town.lab("nat", "reboot", "cafe")
    assert state() == {"captive": True, "user-portal-url": portal}
    assert town.curl("carol", "http://web:443/") == "000 7"
