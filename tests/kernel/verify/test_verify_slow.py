"""Lifetimes and what refreshes them: short ones, as declared and not."""

from __future__ import annotations

import pytest
from verify_support import Running, different, said

from lab.topology.behaviour import Lifetimes, Nat, Refresh

pytestmark = pytest.mark.kernel

SHORT = Nat(lifetimes=Lifetimes(udp_s=4, tcp_transitory_s=4, tcp_established_s=6))


def test_lifetimes_as_declared(one: Running) -> None:
    one.fresh(SHORT)
    report = one.verify(SHORT, slow=True)
    assert report.ok, report.differences
    assert said(report, "lifetime", "udp").observed == "4 s"
    assert said(report, "lifetime, transitory", "tcp").observed == "4 s"
    assert said(report, "lifetime, established", "tcp").observed == "6 s"
    assert said(report, "refresh", "udp").observed == "both"


def test_other_lifetimes_than_declared(one: Running) -> None:
    one.fresh(Nat(lifetimes=Lifetimes(udp_s=2, tcp_transitory_s=9, tcp_established_s=9)))
    report = one.verify(SHORT, slow=True)
    assert {("lifetime", "udp"), ("lifetime, transitory", "tcp")} <= different(report)
    assert ("lifetime, established", "tcp") in different(report)
    low, high = said(report, "lifetime", "udp").observed.removesuffix(" s").split(" to ")
    assert float(low) <= 2 <= float(high)
    assert said(report, "lifetime, transitory", "tcp").observed.startswith("more than")


def test_refresh_by_the_outbound_alone(one: Running) -> None:
    outbound = Nat(lifetimes=Lifetimes(udp_s=4, refresh=Refresh.OUTBOUND))
    one.fresh(outbound)
    report = one.verify(SHORT, slow=True, limit_s=8)
    found = said(report, "refresh", "udp")
    assert (found.declared, found.observed, found.ok) == ("both", "outbound", False)
