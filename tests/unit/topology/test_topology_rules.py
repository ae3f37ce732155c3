"""Firewall rules in their short form."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.topology.behaviour import Rule, Verdict
from lab.topology.problems import WrongValueError
from lab.topology.rules import format_rule, parse_rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("tcp/80", Rule(verdict=Verdict.ACCEPT, protocol="tcp", first=80, last=80)),
        ("udp", Rule(verdict=Verdict.ACCEPT, protocol="udp")),
        ("accept icmp", Rule(verdict=Verdict.ACCEPT, protocol="icmp")),
        ("drop any", Rule(verdict=Verdict.DROP)),
        (
            "reject  tcp/8000-8999 to 45.0.0.0/8",
            Rule(
                verdict=Verdict.REJECT, protocol="tcp", first=8000, last=8999, remote="45.0.0.0/8"
            ),
        ),
        ("TCP/443 to 45.0.0.9", Rule(
            verdict=Verdict.ACCEPT, protocol="tcp", first=443, last=443, remote="45.0.0.9"
        )),
    ],
)  # fmt: skip
def test_rules_are_read(text, rule):
    assert parse_rule(text, "to") == rule


@pytest.mark.parametrize(
    "text", ["", "tcp/", "tcp/0", "tcp/1-0", "any/80", "sctp/80", "tcp/80 to", "allow tcp", "-", 80]
)
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(WrongValueError):
        parse_rule(text, "to")


def test_the_far_side_has_a_word_for_each_direction():
    assert parse_rule("tcp/22 from 45.0.0.9", "from").remote == "45.0.0.9"
    with pytest.raises(WrongValueError, match="says to"):
        parse_rule("tcp/22 to 45.0.0.9", "from")


_PORTS = st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(sorted)
_RULES = st.builds(
    lambda verdict, protocol, ports, remote: Rule(
        verdict=verdict,
        protocol=protocol,
        first=ports[0] if ports and protocol in ("tcp", "udp") else 0,
        last=ports[1] if ports and protocol in ("tcp", "udp") else 0,
        remote=remote,
    ),
    st.sampled_from(Verdict),
    st.sampled_from(["any", "tcp", "udp", "icmp"]),
    st.none() | _PORTS,
    st.sampled_from(["", "45.0.0.9", "45.0.0.0/8", "0.0.0.0/0"]),
)


@given(_RULES, st.sampled_from(["to", "from"]))
def test_rules_round_trip(rule, preposition):
    assert parse_rule(format_rule(rule, preposition), preposition) == rule


@given(st.text())
def test_nothing_but_a_refusal_comes_of_junk(junk):
    with contextlib.suppress(WrongValueError):
        parse_rule(junk, "to")
