"""A firewall in a file: what each direction admits, and what it offers instead."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
)

from lab.topology.behaviour import (
    Direction,
    Proxy,
    Verdict,
)
from lab.topology.forms.form import Form
from lab.topology.forms.values import known_keys, one_word, port_number
from lab.topology.problems import WrongValueError, each, show
from lab.topology.rules import RULE_HELP, parse_rule


def _direction(preposition: Literal["to", "from"], value: Any) -> Any:
    """A direction of a firewall: a list of rules, or rules with a default of their own.

    A list that admits something admits nothing else; a list that only
    refuses lets everything else pass.
    """
    default = None
    rules = value
    if isinstance(value, dict):
        known_keys(value, ("default", "rules"))
        default, rules = value.get("default"), value.get("rules")
        rules = [] if rules is None else rules
        if default is not None:
            try:
                default = one_word(Verdict, default)
            except WrongValueError as error:
                raise WrongValueError(error.message, error.remedy, at=("default",)) from None
    if isinstance(rules, str):
        rules = [rules]
    if not isinstance(rules, list):
        raise WrongValueError(f"{show(value)} is not a list of rules", RULE_HELP)
    parsed = each(enumerate(rules), partial(parse_rule, preposition=preposition), ("rules",))
    if default is None:
        refusing = bool(parsed) and all(rule.verdict is not Verdict.ACCEPT for rule in parsed)
        default = Verdict.ACCEPT if refusing else Verdict.DROP
    return Direction(default=default, rules=tuple(parsed))


_PROXY_HELP = "write proxy: true, or proxy: {port: 3128, connect: [443]} (connect: false for none)"


def _proxy(value: Any) -> Any:
    """A web proxy: true for the usual one, false for none, or its port and what CONNECT may."""
    if isinstance(value, bool):
        return Proxy() if value else False
    if not isinstance(value, dict):
        raise WrongValueError(f"{show(value)} is not a web proxy", _PROXY_HELP)
    known_keys(value, ("port", "connect"))
    usual = Proxy()
    port = port_number(value["port"], ("port",)) if "port" in value else usual.port
    connect = value.get("connect", True)
    if isinstance(connect, bool):
        ports = usual.connect if connect else ()
    else:
        numbers = connect if isinstance(connect, list) else [connect]
        ports = tuple(port_number(number, ("connect",)) for number in numbers)
    return Proxy(port=port, connect=ports)


_RULES = {"type": "array", "items": {"type": "string", "description": RULE_HELP}}
_DIRECTION = WithJsonSchema(
    {
        "anyOf": [
            _RULES,
            _RULES["items"],
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "default": {"enum": [str(verdict) for verdict in Verdict]},
                    "rules": _RULES,
                },
            },
        ]
    }
)


ProxyField = Annotated[
    Proxy | bool,
    BeforeValidator(_proxy),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "boolean"},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "port": {"type": "integer", "minimum": 1, "maximum": 65_535},
                        "connect": {
                            "anyOf": [
                                {"type": ["boolean", "integer"]},
                                {"type": "array", "items": {"type": "integer"}},
                            ]
                        },
                    },
                },
            ]
        }
    ),
]
OutboundField = Annotated[Direction, BeforeValidator(partial(_direction, "to")), _DIRECTION]
InboundField = Annotated[Direction, BeforeValidator(partial(_direction, "from")), _DIRECTION]


class FirewallForm(Form):
    """A stateful packet filter: a preset's name, or the flows that each direction admits."""

    terse: ClassVar[str] = "preset"

    preset: str | None = Field(None, description="What the other keys change.")
    outbound: OutboundField | None = Field(
        None, description="Flows begun inside. A list admits these and nothing else; absent, all."
    )
    inbound: InboundField | None = Field(
        None, description="Flows begun outside. A list admits these and nothing else; absent, all."
    )
    resolver: bool | None = Field(
        None, description="A name server in the router, which knows the lab's nodes."
    )
    proxy: ProxyField | None = Field(
        None, description="A web proxy in the router, which goes out where the inside may not."
    )
    portal: bool | None = Field(
        None, description="A captive portal: a host passes once it has accepted the portal's page."
    )
