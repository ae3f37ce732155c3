"""Keys that are nobody's prove nothing."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lab.peer.identity import _SMALL_ORDER, Identity, verify

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
"""The curve -x^2 + y^2 = 1 + D x^2 y^2 of RFC 8032, section 5.1."""


def y_of_double(y: int) -> int:
    """The y coordinate of twice the points whose y coordinate it is."""
    square = y * y % P
    x_square = (square - 1) * pow(D * square + 1, -1, P) % P
    product = D * x_square * square % P
    return (square + x_square) * pow(1 - product, -1, P) % P


def test_the_keys_of_small_order_are_all_of_them():
    orders = set()
    for y in _SMALL_ORDER:
        value, order = y % P, 1
        while value != 1:
            value, order = y_of_double(value), order * 2
        orders.add((y % P, order))
    # One point each of order 1 and 2, one y of order 4, two of order 8 (each for two points).
    assert sorted(order for _, order in orders) == [1, 2, 4, 8, 8]
    # And what else encodes one of them, as any y below 19 may be written as y + P too.
    assert {y for y in _SMALL_ORDER if y >= P} == {P, P + 1}


@pytest.mark.parametrize("sign", [0, 1 << 255])
@pytest.mark.parametrize("y", sorted(_SMALL_ORDER))
def test_a_key_of_small_order_signs_nothing(y, sign):
    key = (y | sign).to_bytes(32, "little")
    held = 0
    for number in range(40):
        text = str(number).encode()
        for signature in (bytes(64), b"\1" + bytes(63)):
            assert not verify(key, signature, b"purpose", text)
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(signature, b"purpose\0" + text)
            except InvalidSignature:
                continue
            held += 1
    # Which is no idle fear: the library itself takes some of them.
    assert held or y not in (0, 1)


def test_an_honest_key_signs():
    identity = Identity.create()
    assert verify(identity.key, identity.sign(b"purpose", b"text"), b"purpose", b"text")
    assert not verify(identity.key, identity.sign(b"purpose", b"text"), b"another", b"text")
