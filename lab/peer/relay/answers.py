"""The relay's answers to requests, as commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.peer.relay.allocation import Allocation, Client
from lab.peer.relay.commands import Command, Reply
from lab.peer.stun.codec import Class, Message, encode
from lab.peer.stun.responder import Site, respond


def granted(allocation: Allocation, request: Message, now: float) -> Reply:
    """Yes to Allocate: where the relay is, and for how long."""
    attributes = {
        "XOR-RELAYED-ADDRESS": allocation.relayed,
        "LIFETIME": max(0, round(allocation.expires_at - now)),
        "XOR-MAPPED-ADDRESS": allocation.client.endpoint,
    }
    return success(allocation.client, request, allocation.key, attributes)


def success(
    client: Client, request: Message, key: bytes, attributes: Mapping[str, Any] | None = None
) -> Reply:
    """Yes to a request, signed with the user's key."""
    answer = Message(request.method, Class.RESPONSE, request.transaction, attributes or {})
    return Reply(client, encode(answer, key=key, fingerprint="FINGERPRINT" in request.attributes))


def refused(
    client: Client,
    request: Message,
    code: int,
    reason: str,
    *,
    key: bytes = b"",
    more: Mapping[str, Any] | None = None,
) -> Reply:
    """No to a request; signed once the client is known, by then with a `key`."""
    attributes = {"ERROR-CODE": (code, reason), **(more or {})}
    answer = Message(request.method, Class.ERROR, request.transaction, attributes)
    return Reply(client, encode(answer, key=key, fingerprint="FINGERPRINT" in request.attributes))


def binding(client: Client, data: bytes) -> list[Command]:
    """The answer to a plain STUN Binding, which every TURN server gives."""
    site = Site(client.server.address, "", client.server.port, 0)
    reply = respond(data, client.endpoint, client.server, site, stream=client.transport == "tcp")
    return [Reply(client, reply.payload)] if reply else []
