"""The whole file, and what it expects of its peers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
)

from lab.topology.forms.attached import IpField
from lab.topology.forms.form import Form
from lab.topology.forms.happening import HappeningForm
from lab.topology.forms.link import InternetForm
from lab.topology.forms.node import NodeForm
from lab.topology.forms.router import RouterForm, SwitchForm
from lab.topology.forms.values import between, whole
from lab.topology.model import Ip
from lab.topology.outcomes import OUTCOMES
from lab.topology.problems import WrongValueError, one_of, show


def _seed(value: Any) -> Any:
    whole(value, "a seed", "write a whole number")
    return between(0, 2**63 - 1, value, "a seed is 0 to 2^63-1")


def _outcome(value: Any) -> Any:
    if value not in OUTCOMES:
        raise WrongValueError(
            f"unknown outcome {show(value)}", one_of(str(value), OUTCOMES, "outcomes")
        )
    return value


SeedField = Annotated[
    int, BeforeValidator(_seed), WithJsonSchema({"type": "integer", "minimum": 0})
]


OutcomeField = Annotated[str, BeforeValidator(_outcome), WithJsonSchema({"enum": list(OUTCOMES)})]


class ExpectForm(Form):
    """What `lab connect` must find between two peers."""

    from_: str = Field(description="The peer that begins.")
    to: str = Field(description="The peer that is called.")
    direct: OutcomeField | None = Field(
        None, description="Contact at an address that is reachable as it stands."
    )
    reversal: OutcomeField | None = Field(None, description="The callee is asked to call.")
    udp_punch: OutcomeField | None = Field(None, description="UDP hole punching.")
    tcp_punch: OutcomeField | None = Field(None, description="TCP hole punching.")
    udp_predict: OutcomeField | None = Field(None, description="UDP punching by port prediction.")
    tcp_predict: OutcomeField | None = Field(None, description="TCP punching by port prediction.")
    birthday: OutcomeField | None = Field(None, description="UDP punching by birthday probing.")
    lan: OutcomeField | None = Field(None, description="Found on the LAN, without servers.")
    upnp: OutcomeField | None = Field(None, description="A router opens a port: UPnP IGD.")
    nat_pmp: OutcomeField | None = Field(None, description="A router opens a port: NAT-PMP.")
    pcp: OutcomeField | None = Field(None, description="A router opens a port: PCP.")
    ice: OutcomeField | None = Field(None, description="ICE (RFC 8445), all candidates at once.")
    ice_trickle: OutcomeField | None = Field(None, description="ICE, candidates as they come.")
    relay: OutcomeField | None = Field(None, description="Through the relay service.")
    http: OutcomeField | None = Field(None, description="In HTTP, by a web relay.")
    path: Literal["direct", "relayed", "none"] | None = Field(
        None, description="The best path that is found."
    )


class FileForm(Form):
    """A network for lab: routers, nodes, and the internet between them."""

    name: str | None = Field(None, description="The topology's name; the file's name if absent.")
    description: str = Field("", description="What it shows, in a sentence.")
    seed: SeedField = Field(1, description="Every random choice follows from it.")
    ip: IpField = Field(
        Ip.V4, description="What everything has unless it says otherwise: 4, 6 or dual."
    )
    internet: InternetForm | None = Field(
        None, description="The core. `delay` is from one edge to another, one way."
    )
    routers: dict[str, RouterForm] | None = Field(None, description="Routers by name.")
    switches: dict[str, SwitchForm] | None = Field(
        None, description="Networks without a router, by name."
    )
    nodes: dict[str, NodeForm] | None = Field(None, description="Hosts by name.")
    expect: list[ExpectForm] | None = Field(
        None, description="What connecting peers must find; checked by `lab connect`."
    )
    timeline: list[HappeningForm] | None = Field(
        None, description="What happens while the lab runs."
    )
