"""The link model carried out by the kernel: netem, or TBF where a rate is all there is.

A direction is the egress queueing discipline of the interface that sends:

    1: netem   delay, jitter, loss    (root; a delay line, practically unbounded)
    2: netem   rate, queue            (its child; only where there is a rate)
    3: TBF     rate, queue in bytes   (the child of 2, which passes everything then)
    4: CoDel or fq_codel              (the child of 3, instead of a queue in bytes)

Two netems, because its one limit counts what waits and what is on its way
alike, and a queue that is long enough for the one is wrong for the other.
netem's own rate and not a TBF child, because a token bucket lets a packet
that finds it full pass at once, and the model (a real wire) does not.  A
queue that netem has not is worth that one frame.

A change is made in place (the same handle and kind: the kernel keeps what is
queued), and what is not needed any more stays and passes everything, in order:
so nothing on its way is lost or overtaken.  What is in 2 keeps its time; what
is in 3 leaves at once.  Only what 3 has as its queue can't be changed in
place: it is emptied first, while what comes waits in 2 (`_replace_bucket`).
`lab.fabric.links.qdisc` has the options, and `lab.plan.backends` what of the
model is beyond all this.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from lab.errors import LabError, MissingError
from lab.fabric import netns
from lab.fabric.links import qdisc
from lab.fabric.links.disciplines import ROOT, Disciplines
from lab.topology.character import Discipline, Impairment, QueueUnit

_DELAY_HANDLE = 0x00010000
_DELAY_CLASS = 0x00010001
_RATE_HANDLE = 0x00020000
_RATE_CLASS = 0x00020001
_TBF_HANDLE = 0x00030000
_TBF_CLASS = 0x00030001
_ACTIVE_HANDLE = 0x00040000
_CUT_HANDLE = 0x00050000
_ROOTS = (_DELAY_HANDLE, _TBF_HANDLE)

_NONE = Impairment()
_EMPTY_WITHIN_S = 10.0
_LOOK_EACH_S = 0.002


def shape(interface: str, impairment: Impairment, seed: int = 0) -> None:
    """Give what leaves `interface` the character `impairment`, in place if it had one.

    The calling thread is in the interface's namespace.  `seed` is what chance
    begins from, where the kernel takes one (`seeded`); 0 for none.
    Segmentation offload is switched off on the way: netem would lose, delay
    and count a batch of 64 KB as one packet.  Without an impairment a
    discipline that exists is made transparent rather than removed, because
    removing it would drop what is on its way (`clear` does); where there is
    none, none is made.

    Raises MissingError if this kernel can't do it, LabError if it refuses.
    """
    with Disciplines(interface) as kernel:
        if impairment.none:
            kernel.change(ROOT, _DELAY_HANDLE, "netem", qdisc.delay_line(_NONE, 0))
            kernel.change(ROOT, _TBF_HANDLE, "tbf", qdisc.token_bucket(_NONE))
            _pass_all(kernel)
            return
        kernel.send_single_segments()
        if impairment.duplicate:
            _remove_rate(kernel)
        try:
            kernel.put(ROOT, _DELAY_HANDLE, "netem", qdisc.delay_line(impairment, seed))
        except MissingError:
            if impairment.beyond_rate:
                raise
            kernel.put(ROOT, _TBF_HANDLE, "tbf", qdisc.token_bucket(impairment))
            return
        if not impairment.rate_bit:
            _pass_all(kernel)
        elif _has_own_queue(impairment):
            _put_bucket(kernel, impairment)
        else:
            kernel.put(_DELAY_CLASS, _RATE_HANDLE, "netem", qdisc.transmitter(impairment))
            kernel.change(_RATE_CLASS, _TBF_HANDLE, "tbf", qdisc.token_bucket(_NONE))


def _has_own_queue(impairment: Impairment) -> bool:
    """Whether the queue is one that netem has not."""
    drop_tail = impairment.discipline is Discipline.DROP_TAIL
    return not drop_tail or impairment.queue.unit is QueueUnit.BYTES


def _pass_all(kernel: Disciplines) -> None:
    """Let what is below the delay line, if anything is, pass everything in order."""
    kernel.change(_DELAY_CLASS, _RATE_HANDLE, "netem", qdisc.transmitter(_NONE))
    kernel.change(_RATE_CLASS, _TBF_HANDLE, "tbf", qdisc.token_bucket(_NONE))


def _put_bucket(kernel: Disciplines, impairment: Impairment) -> None:
    """Have the token bucket and the queue that is its own, and let 2 pass everything to them."""
    active = impairment.discipline is not Discipline.DROP_TAIL
    kind, options = qdisc.active(impairment) if active else ("bfifo", b"")
    queue = kernel.find(_ACTIVE_HANDLE)
    standing = kernel.find(_TBF_HANDLE) is not None
    if not standing or (queue.kind if queue else "bfifo") != kind:
        _replace_bucket(kernel, impairment, standing=standing)
    if active:
        kernel.put(_TBF_CLASS, _ACTIVE_HANDLE, kind, options)
    kernel.change(_RATE_CLASS, _TBF_HANDLE, "tbf", qdisc.token_bucket(impairment))
    kernel.change(_DELAY_CLASS, _RATE_HANDLE, "netem", qdisc.transmitter(_NONE))


def _replace_bucket(kernel: Disciplines, impairment: Impairment, *, standing: bool) -> None:
    """A new token bucket below 2, which passes everything yet; the former one leaves empty.

    Until it has its queue and its rate, 2 is the transmitter: nothing waits further down.
    """
    kernel.put(_DELAY_CLASS, _RATE_HANDLE, "netem", qdisc.transmitter(impairment))
    if standing:
        kernel.change(_RATE_CLASS, _TBF_HANDLE, "tbf", qdisc.token_bucket(_NONE))
        _wait_until_empty(kernel, _TBF_HANDLE)
        kernel.remove(_RATE_CLASS, _TBF_HANDLE)
    kernel.put(_RATE_CLASS, _TBF_HANDLE, "tbf", qdisc.token_bucket(_NONE))


def _remove_rate(kernel: Disciplines) -> None:
    """Remove what is below the delay line, empty: no netem doubles packets beside another."""
    if kernel.find(_RATE_HANDLE):
        _pass_all(kernel)
        _wait_until_empty(kernel, _RATE_HANDLE)
        kernel.remove(_DELAY_CLASS, _RATE_HANDLE)


def _wait_until_empty(kernel: Disciplines, handle: int) -> None:
    """Return when nothing is in that discipline; the kernel gives no notice, so it is asked."""
    deadline = time.monotonic() + _EMPTY_WITHIN_S
    while (found := kernel.find(handle)) and found.waiting:
        if time.monotonic() > deadline:
            raise LabError(
                f"{found.waiting} packets still wait before the rate that the link had",
                remedy="make this change when its queue has emptied",
            )
        time.sleep(_LOOK_EACH_S)


def clear(interface: str) -> None:
    """Remove whatever `shape` made, and what is queued in it; nothing there is fine."""
    with Disciplines(interface) as kernel:
        kernel.remove(ROOT, _DELAY_HANDLE)
        kernel.remove(ROOT, _TBF_HANDLE)


def waiting(interface: str) -> int:
    """How many packets are in what `shape` made; LabError if there is no such interface."""
    with Disciplines(interface) as kernel:
        return max(
            (found.waiting for handle in _ROOTS if (found := kernel.find(handle))),
            default=0,
        )


def cut(interface: str) -> None:
    """Let nothing leave `interface`; what waits in its queue is lost.

    The interface keeps its carrier, its addresses and its routes: it is as if
    somebody had cut the cable behind the next box.  In the calling thread's
    namespace, as `shape` is.  Raises LabError if the kernel refuses.
    """
    with Disciplines(interface) as kernel:
        # It drops everything, and is always built in.
        kernel.put(ROOT, _CUT_HANDLE, "blackhole")


def join(interface: str) -> None:
    """End a `cut`; `shape` says what passes then.  Fine if it was not cut."""
    with Disciplines(interface) as kernel:
        kernel.remove(ROOT, _CUT_HANDLE)


def supported() -> bool:
    """Whether this kernel has netem: tried on the loopback of a scratch namespace.

    Takes a millisecond, or tens where the kernel loads the module first.
    """
    return _in_scratch(lambda: None)


def seeded() -> bool:
    """Whether this kernel's netem takes a seed (Linux 6.6); tried as `supported` does."""

    def has_seed() -> None:
        with Disciplines("lo") as kernel:
            found = kernel.find(_DELAY_HANDLE)
            if found is None or not found.has(qdisc.NETEM_PRNG_SEED):
                raise MissingError("netem without a seed", remedy="Linux 6.6 has it")

    return _in_scratch(has_seed)


def _in_scratch(check: Callable[[], None]) -> bool:
    """Whether the loopback of a scratch namespace can be given a delay, and `check` passes then."""
    try:
        with netns.scratch():
            shape("lo", Impairment(delay_us=1, rate_bit=1_000_000), 1)
            check()
    except LabError:
        return False
    return True
