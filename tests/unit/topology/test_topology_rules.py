"""Firewall rules in their short form."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.topology.behaviour import Direction, Rule, Verdict
from lab.topology.problems import WrongValueError
from lab.topology.rules import decide, format_rule, parse_rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("tcp/80", Rule(verdict=Verdict.ACCEPT, protocol="tcp", ports=((80, 80),))),
        ("udp", Rule(verdict=Verdict.ACCEPT, protocol="udp")),
        ("accept icmp", Rule(verdict=Verdict.ACCEPT, protocol="icmp")),
        ("drop any", Rule(verdict=Verdict.DROP)),
        ("established", Rule(verdict=Verdict.ACCEPT, protocol="established")),
        (
            "tcp/80,443,8000-8999",
            Rule(
                verdict=Verdict.ACCEPT,
                protocol="tcp",
                ports=((80, 80), (443, 443), (8000, 8999)),
            ),
        ),
        (
            "udp/53 to 2001:db8:0::/48",
            Rule(
                verdict=Verdict.ACCEPT, protocol="udp", ports=((53, 53),), remote="2001:db8::/48"
            ),
        ),
        (
            "reject  tcp/8000-8999 to 45.0.0.0/8",
            Rule(
                verdict=Verdict.REJECT,
                protocol="tcp",
                ports=((8000, 8999),),
                remote="45.0.0.0/8",
            ),
        ),
        ("TCP/443 to 45.0.0.9", Rule(
            verdict=Verdict.ACCEPT, protocol="tcp", ports=((443, 443),), remote="45.0.0.9"
        )),
    ],
)  # fmt: skip
def test_rules_are_read(text, rule):
    assert parse_rule(text, "to") == rule


@pytest.mark.parametrize(
    "text",
    [
        *("", "tcp/", "tcp/0", "tcp/1-0", "any/80", "sctp/80", "tcp/80 to", "allow tcp", "-", 80),
        *("tcp/80,", "tcp/80,,81", "tcp/80, 81", "udp/" + ",".join(map(str, range(1, 17)))),
        *("udp/1-2,3-4,5-6,7-8,9-10,11-12,13-14,15-16", "drop established", "established/80"),
        *("tcp to 2001:db8::1/32", "tcp to 1.2.3", "established to 45.0.0.9"),
    ],
)
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(WrongValueError):
        parse_rule(text, "to")


def test_the_far_side_has_a_word_for_each_direction():
    assert parse_rule("tcp/22 from 45.0.0.9", "from").remote == "45.0.0.9"
    with pytest.raises(WrongValueError, match="says to"):
        parse_rule("tcp/22 to 45.0.0.9", "from")


_PORTS = st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(sorted).map(tuple)
_RULES = st.builds(
    lambda verdict, protocol, ports, remote: Rule(
        verdict=verdict,
        protocol=protocol,
        ports=tuple(ports) if protocol in ("tcp", "udp") else (),
        remote=remote,
    ),
    st.sampled_from(Verdict),
    st.sampled_from(["any", "tcp", "udp", "icmp"]),
    st.lists(_PORTS, max_size=7),
    st.sampled_from(["", "45.0.0.9", "45.0.0.0/8", "0.0.0.0/0", "2001:db8::1", "2001:db8::/32"]),
)


@given(_RULES, st.sampled_from(["to", "from"]))
def test_rules_round_trip(rule, preposition):
    assert parse_rule(format_rule(rule, preposition), preposition) == rule


def test_the_first_rule_that_matches_decides():
    direction = Direction(
        default=Verdict.REJECT,
        rules=tuple(
            parse_rule(text, "to")
            for text in (
                "drop tcp/80 to 45.0.0.9",
                "established",
                "tcp/80,8000-8999",
                "udp to 2001:db8::/32",
                "icmp",
            )
        ),
    )
    decided = {
        flow: decide(direction, *flow)
        for flow in (
            ("tcp", 80, "45.0.0.9"),
            ("tcp", 80, "45.0.0.8"),
            ("tcp", 80),
            ("tcp", 8999),
            ("tcp", 9000),
            ("udp", 53, "2001:db8::7"),
            ("udp", 53, "45.0.0.9"),
            ("icmp",),
        )
    }
    assert [str(verdict) for verdict in decided.values()] == [
        *("drop", "accept", "accept", "accept", "reject", "accept", "reject", "accept"),
    ]


@given(st.text())
def test_nothing_but_a_refusal_comes_of_junk(junk):
    with contextlib.suppress(WrongValueError):
        parse_rule(junk, "to")
