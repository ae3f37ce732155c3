"""A client's transaction: when it sends, what it believes."""

from __future__ import annotations

import pytest

from lab.peer.endpoint import Endpoint
from lab.peer.stun.codec import Class, Message, Method, encode, request
from lab.peer.stun.transaction import QUICK, RFC_3489, Transaction, tcp_schedule, udp_schedule

SERVER = Endpoint("192.0.2.1", 3478)
MINE = Endpoint("198.51.100.7", 4000)


def answer(asked: Message, kind: Class = Class.RESPONSE, key: bytes = b"", **attributes) -> bytes:
    named = {name.replace("_", "-"): value for name, value in attributes.items()}
    return encode(Message(asked.method, kind, asked.transaction, named), key=key)


def run_out(transaction: Transaction) -> list[float]:
    """Tick at each deadline; when something was sent."""
    sent = []
    while (due := transaction.deadline()) is not None:
        transaction.tick(due)
        sent += [due for _ in transaction.take()]
    return sent


@pytest.mark.parametrize(
    ("schedule", "sends", "failure"),
    [
        (udp_schedule(), [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5], 39.5),
        (QUICK, [0, 0.5, 1.5], 2.5),
        (udp_schedule(rto=0.1, rc=2, rm=4), [0, 0.1], 0.5),
        (tcp_schedule(), [0], 39.5),
        (RFC_3489, [0, 0.1, 0.3, 0.7, 1.5, 3.1, 4.7, 6.3, 7.9], 9.5),
    ],
)
def test_the_schedules_of_the_rfcs(schedule, sends, failure):
    transaction = Transaction(request(Method.BINDING), SERVER, schedule, 100.0)
    assert run_out(transaction) == pytest.approx([100 + s for s in sends])
    assert transaction.failed
    assert transaction._failure == pytest.approx(100 + failure)
    assert transaction.tries == len(sends)


def test_a_late_tick_makes_no_burst():
    transaction = Transaction(request(Method.BINDING), SERVER, udp_schedule(), 0.0)
    transaction.tick(2.0)
    assert len(transaction.take()) == 1
    assert transaction.deadline() == pytest.approx(3.5)


def test_the_answer_ends_it():
    asked = request(Method.BINDING)
    transaction = Transaction(asked, SERVER, QUICK, 0.0)
    transaction.tick(0.0)
    assert transaction.receive(answer(asked, XOR_MAPPED_ADDRESS=MINE), SERVER, 0.1) == "stun"
    assert transaction.mapped == MINE
    assert transaction.deadline() is None
    transaction.tick(9.0)
    assert not transaction.failed


def test_what_is_no_answer_is_left_to_others():
    asked = request(Method.BINDING)
    good = answer(asked, XOR_MAPPED_ADDRESS=MINE)
    transaction = Transaction(asked, SERVER, QUICK, 0.0)
    elsewhere = Endpoint("192.0.2.2", 3478)
    assert transaction.receive(good, elsewhere, 0.1) == ""
    stranger = answer(request(Method.BINDING), XOR_MAPPED_ADDRESS=MINE)
    assert transaction.receive(stranger, SERVER, 0.1) == ""
    assert transaction.receive(encode(asked), SERVER, 0.1) == ""
    assert transaction.receive(b"\x80junk", SERVER, 0.1) == ""
    assert not transaction.done


def test_an_answer_from_elsewhere_counts_when_it_was_asked_for():
    asked = request(Method.BINDING, {"CHANGE-REQUEST": 6})
    transaction = Transaction(asked, SERVER, QUICK, 0.0, any_source=True)
    elsewhere = Endpoint("192.0.2.2", 3479)
    assert transaction.receive(answer(asked, XOR_MAPPED_ADDRESS=MINE), elsewhere, 0.1)
    assert transaction.responder == elsewhere


def test_a_signed_request_wants_a_signed_answer():
    asked = request(Method.REFRESH)
    transaction = Transaction(asked, SERVER, QUICK, 0.0, key=b"key")
    assert transaction.receive(answer(asked), SERVER, 0.1) == ""
    assert transaction.receive(answer(asked, key=b"other"), SERVER, 0.1) == ""
    refused = answer(asked, Class.ERROR, ERROR_CODE=(437, "Mismatch"))
    assert transaction.receive(refused, SERVER, 0.1) == ""
    assert transaction.receive(answer(asked, key=b"key"), SERVER, 0.1)


def test_the_wish_for_a_signature_need_not_be_signed():
    asked = request(Method.REFRESH)
    transaction = Transaction(asked, SERVER, QUICK, 0.0, key=b"key")
    stale = answer(asked, Class.ERROR, ERROR_CODE=(438, "Stale Nonce"))
    assert transaction.receive(stale, SERVER, 0.1)
    assert transaction.response.error == (438, "Stale Nonce")
