"""When the two sides of a punch begin: as soon as they can, or at one moment.

Synchronised, the callee waits for half a round trip after its answer, which is
when the caller has it (the idea of libp2p's DCUtR).  Unsynchronised, it
begins at once.  The options of an attempt (docs/techniques) may choose, and
may have the callee begin later still, as somebody with a slow clock would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from lab.peer.record import Candidate
from lab.peer.traversal.call import IncomingCall, OutgoingCall

MAX_WAIT_S = 5.0
KNOWN_S = 1.0
"""How long a caller waits to know its round trip to the callee."""


async def agreed(call: OutgoingCall, *, synchronised: bool) -> dict[str, Any]:
    """What the offer tells the callee about its beginning."""
    wait = call.option("late_s", 0.0, 0.0, MAX_WAIT_S)
    if call.option("synchronised", float(synchronised), 0, 1):
        try:
            async with asyncio.timeout(KNOWN_S):
                await call.rtt_known.wait()
        except TimeoutError:
            pass  # The service is slow: so will be the answer, and nothing is lost by not waiting.
        wait += (call.rtt_before or 0.0) / 2
    return {"wait_s": round(wait, 6)}


async def answer_and_begin(
    call: IncomingCall, candidates: Sequence[Candidate], details: Mapping[str, Any]
) -> None:
    """Send the answer, and wait as long as the caller asked for from then on.

    The service's word on the answer may come later than that, and is not
    waited for: it would take longer than the answer itself.
    """
    began, wait = call.now, _wait(call)
    sending = asyncio.ensure_future(call.answer(candidates, details))

    async def end() -> None:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    call.at_close(end)
    await asyncio.wait((sending,), timeout=wait)
    if sending.done():
        sending.result()
        await asyncio.sleep(max(0.0, began + wait - call.now))


def _wait(call: IncomingCall) -> float:
    wait = call.incoming.details.get("wait_s", 0)
    sensible = isinstance(wait, int | float) and 0 < wait <= MAX_WAIT_S
    return float(wait) if sensible else 0.0
