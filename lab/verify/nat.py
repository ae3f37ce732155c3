"""What a NAT does, measured from both sides of its router, one dimension after another."""

from __future__ import annotations

from collections.abc import Iterator

from lab.peer.endpoint import Endpoint
from lab.verify import expect
from lab.verify.admission import filtering, hairpin, unsolicited
from lab.verify.mapping import mapping, ports
from lab.verify.probe import OUTSIDE
from lab.verify.report import Dimension, Finding
from lab.verify.trial import BLOCKED, Trial


def findings(trial: Trial) -> Iterator[Finding]:
    """Everything that takes no time of its own."""
    if not trial.destinations:
        yield _blocked(trial)
        yield unsolicited(trial)
        return
    mapped, shared = mapping(trial)
    yield mapped
    filtered = filtering(trial)
    yield filtered
    yield ports(trial, shared=shared)
    if len(trial.probe.hosts) > 1:
        yield from hairpin(trial)
    yield unsolicited(trial)
    if trial.protocol == "udp":
        yield _class(trial, mapped, filtered)


def _blocked(trial: Trial) -> Finding:
    """The firewall lets nothing of this protocol out: so it must be."""
    to = Endpoint(trial.site.remotes[0], trial.probe.port())
    source = Endpoint(trial.probe.hosts[0], trial.probe.port())
    (outcome,) = trial.probe.exchange([trial.probe.out(trial.protocol, source, to)])
    observed = "passes" if outcome.on(OUTSIDE) else BLOCKED
    return trial.finding(Dimension.MAPPING, BLOCKED, observed)


def _class(trial: Trial, mapping: Finding, filtering: Finding) -> Finding:
    declared = expect.kind(mapping.declared, filtering.declared.removesuffix(" (firewall)"))
    observed = expect.kind(mapping.observed, filtering.observed.removesuffix(" (firewall)"))
    return trial.finding(Dimension.CLASS, str(declared), str(observed))
