"""Which backend carries a link, and the reason that people are given."""

from __future__ import annotations

import pytest

from lab.errors import MissingError
from lab.plan.backends import kernel_cannot, kernel_lacks, why_ferry
from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.topology.character import (
    Backend,
    Bursts,
    DataFile,
    Discipline,
    Impairment,
    LossPattern,
    Queue,
    QueueUnit,
)
from lab.topology.loader import loads

FILE = DataFile(path="/x", digest="")


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        (Impairment(delay_us=1, jitter_us=1, bursts=Bursts(p=0.1, r=0.5), corrupt=0.1), ""),
        (Impairment(rate_bit=9, discipline=Discipline.FQ_CODEL, delay_us=5), ""),
        (Impairment(rate_bit=9, queue=Queue(length=9000, unit=QueueUnit.BYTES)), ""),
        (Impairment(trace=FILE), "no packet-delivery traces"),
        (Impairment(pattern=LossPattern(lost=(1,), of=2)), "by chance alone"),
        (Impairment(delay_us=5, jitter_us=1, correlation=0.2), "not correlated"),
        (Impairment(delay_us=5_000_000, jitter_us=3_000_000), "two seconds"),
        (Impairment(rate_bit=9, duplicate=0.1), "duplicates no packets"),
        (Impairment(rate_bit=9, discipline=Discipline.CODEL, delay_us=5, jitter_us=1), "jitter"),
    ],
)
def test_what_the_kernel_cannot(way, reason):
    found = kernel_cannot(way, netem=True)
    assert reason in found
    assert bool(found) == bool(reason)


def test_a_kernel_without_netem_or_seed():
    chance = Impairment(loss=0.1)
    assert kernel_lacks(chance, netem=True, seed=True) == ""
    assert kernel_lacks(chance, netem=True, seed=False) == "this kernel's netem takes no seed"
    assert kernel_lacks(Impairment(delay_us=5), netem=True, seed=False) == ""
    assert kernel_lacks(Impairment(loss=1.0), netem=True, seed=False) == ""
    assert kernel_lacks(chance, netem=False, seed=False) == "this kernel has no netem"
    assert kernel_lacks(Impairment(rate_bit=5), netem=False, seed=False) == ""
    fair = Impairment(rate_bit=4_000_000, discipline=Discipline.FQ_CODEL)
    assert "fq_codel" in kernel_lacks(fair, netem=True, seed=True)
    assert kernel_cannot(fair, netem=True) == ""
    faster = Impairment(rate_bit=5_000_000, discipline=Discipline.FQ_CODEL)
    assert kernel_lacks(faster, netem=True, seed=True) == ""


@pytest.mark.parametrize("discipline", [Discipline.CODEL, Discipline.FQ_CODEL])
def test_an_active_queue_is_the_ferrys_where_the_kernel_was_built_without(discipline):
    active = Impairment(rate_bit=50_000_000, discipline=discipline)
    assert kernel_cannot(active, netem=False) == "there is no netem, and likely no CoDel"
    assert kernel_cannot(Impairment(discipline=discipline), netem=False) == "", "no rate, no queue"


def plan_of(link: str, **machine: bool):
    text = f"nodes:\n  a: {{via: internet, link: {link}}}\n"
    return compile_topology(loads(text, "x.yaml"), Machine(**machine))


def test_the_reason_is_a_note():
    plan = plan_of("{loss: '3,7 of 20'}")
    assert plan.links[0].backend is Backend.FERRY
    assert plan.notes[-1] == (
        "1 link is carried by the user-space ferry: netem loses by chance alone, "
        "and not by a pattern"
    )
    assert plan_of("{loss: 1%}", netem_seed=False).links[0].backend is Backend.FERRY
    link = plan_of("{loss: 1%, backend: ferry}").links[0]
    assert why_ferry(link, netem=True, seed=True) == "as the file demands"
    assert why_ferry(link, netem=True, seed=False) == "this kernel's netem takes no seed"
    assert plan_of("{loss: 1%}").links[0].backend is Backend.KERNEL
    assert plan_of("{loss: 1%, backend: kernel}", netem_seed=False).links[0].backend is (
        Backend.KERNEL
    )


def test_a_demand_that_can_not_be_met():
    with pytest.raises(
        MissingError, match="asks for the kernel backend, but netem loses"
    ) as caught:
        plan_of("{loss: '3,7 of 20', backend: kernel}")
    assert caught.value.where == "x.yaml:2"
    assert "Leave `backend` at auto" in caught.value.remedy
