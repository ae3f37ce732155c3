"""`lab events` for people, and the tables of `lab nat show`."""

from __future__ import annotations

import json

from lab.agent.events import EventLog, read
from lab.fabric.rules.standing import Mapping, Standing
from lab.observe import behaviours
from lab.observe.history import line
from lab.observe.tables import table
from lab.plan.model import Interface, Node, NodeKind
from lab.topology.behaviour import Direction, Firewall, Nat, Rule, Verdict

NODE = Node(
    name="home",
    kind=NodeKind.ROUTER,
    wan="wan",
    interfaces=(Interface(name="wan", addresses=("45.0.0.2/30",)),),
    nat=Nat(preset="home"),
)


def test_each_event_has_its_words():
    stamps = {"at": 1000.25, "since_up_s": 2.5}
    moment = stamps | {
        "event": "timeline",
        "what": ["home: NAT symmetric (APDM)"],
        "planned_s": 2.4,
        "actual_s": 2.401,
        "seconds": 0.012,
        "undo": True,
        "outcome": "done",
    }
    words = line(moment)
    assert ":40.250" in words
    assert "2.500 s" in words
    told = "undone: home: NAT symmetric (APDM) (planned 2.400, began 2.401, took 12 ms)"
    assert words.endswith(told)
    assert "failed: no room" in line(moment | {"outcome": "failed", "error": "no room"})
    assert "changed meanwhile" in line(moment | {"outcome": "skipped"})
    exited = {"event": "exited", "node": "bob", "code": 3, "last": "alas"}
    assert "the program of bob, with code 3: alas" in line(stamps | exited)
    assert "weight 7" in line(stamps | {"event": "of-tomorrow", "weight": 7})


def test_the_log_is_read_whatever_was_written(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    log.note("first", what="ü")
    log.lab_is_up()
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"torn": \n[1]\n')
    log.note("second")
    first, second = read(tmp_path / "events.jsonl")
    assert "since_up_s" not in first
    assert (first["what"], second["event"]) == ("ü", "second")
    assert second["since_up_s"] >= 0
    assert list(read(tmp_path / "nothing")) == []


def test_a_full_disk_keeps_nobody_from_hearing_what_happens(tmp_path):
    log = EventLog(tmp_path / "no" / "such" / "folder")
    with log.followed() as heard:
        log.note("something")
    assert heard.get_nowait()["event"] == "something"


def test_columns_that_are_empty_are_left_out():
    assert list(table(("a", "b", "c"), [("x", "", "long"), ("yy", "", "z")])) == [
        "A   C",
        "x   long",
        "yy  z",
    ]


def test_a_nat_is_shown_with_every_choice_and_its_mappings():
    held = [
        Mapping("udp", "192.168.1.2:5000", 1234, "45.0.0.9:53", timeout_s=120, expires_s=100),
    ]
    shown = "\n".join(behaviours.nat(NODE, held))
    assert "ports        preserve in 1024-65535\n" in shown
    assert "home: NAT home, outside 45.0.0.2" in shown
    assert "mapping      endpoint-independent" in shown
    assert "udp       192.168.1.2:5000  45.0.0.2:1234  45.0.0.9:53  20s   1m 40s" in shown
    assert "no mappings" in "\n".join(behaviours.nat(NODE, []))
    data = behaviours.nat_json(NODE, held)
    assert json.loads(json.dumps(data)) == data
    assert data["nat"]["hairpin"] == "off", "defaults too"
    assert data["mappings"][0]["idle_s"] == 20


def test_a_firewall_is_shown_rule_by_rule():
    rules = (Rule(verdict=Verdict.DROP, protocol="udp"),)
    firewall = Firewall(outbound=Direction(rules=rules), preset="mine")
    shown = list(behaviours.firewall(Node(name="alice", kind=NodeKind.HOST, firewall=firewall)))
    assert shown[:6] == [
        "alice: firewall mine",
        "  outbound",
        "    drop udp",
        "    accept the rest",
        "  inbound",
        "    accept everything",
    ]


def rules(*blocks: str) -> Standing:
    return Standing(ip4="", ip6="", nft=(("ip lab", "table ip lab {\n" + "".join(blocks) + "}\n"),))


def test_rules_are_the_same_in_whatever_order_they_were_made():
    used = "\tmap used {\n\t\ttype inet_service : inet_service\n\t}\n"
    left = "\tmap left {\n\t\ttype inet_service : inet_service\n\t}\n"
    chain = "\tchain a {\n\t\tudp dport set udp sport map @used\n\t}\n"
    empty = "\tchain before {\n\t}\n"
    other = "\tchain a {\n\t\tdrop\n\t}\n"
    assert rules(used, chain).same(rules(chain, empty, left, used))
    assert not rules(used, chain).same(rules(used, other))
    assert not rules(used, chain).same(rules(chain))
