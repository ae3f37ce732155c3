"""The kinds of values in a topology file: what each accepts, and its JSON Schema.

Each function takes what YAML gave and returns the value in base units, or
raises WrongValueError; the types below wrap them for `lab.topology.schema`.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from lab.topology.addresses import Written, addresses, prefixes
from lab.topology.behaviour import (
    Dependence,
    Direction,
    Hairpin,
    Mount,
    Pooling,
    PortPolicy,
    Proxy,
    Refresh,
    Unsolicited,
    Verdict,
)
from lab.topology.model import Ip, WantedBackend
from lab.topology.problems import WrongValueError, each, one_of, show
from lab.topology.rules import RULE_HELP, parse_ports, parse_rule
from lab.topology.units import (
    DURATION_HELP,
    PROBABILITY_HELP,
    RATE_HELP,
    SIZE_HELP,
    parse_duration,
    parse_probability,
    parse_rate,
    parse_size,
)

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}", re.ASCII)
NAME_HELP = "names are a-z, 0-9 and -, begin with a letter, and have at most 31 characters"
SERVICES = ("stun", "rendezvous", "relay", "web-relay", "coturn")
SERVICE_WORDS = {**{word: word for word in SERVICES}, "turn": "relay"}
OUTCOMES = (
    "success",
    "reversed",
    "failure",
    "no-stream",
    "timed-out",
    "refused",
    "blocked",
    "unreachable",
    "unsupported",
    "cancelled",
    "failed",
)
CONNECTED = frozenset({"success", "reversed"})
"""Outcomes of an attempt that found a path (docs/contract.md)."""
MAX_COUNT = 10_000
_HOUR_US = 3_600_000_000
_MONTH_US = 720 * _HOUR_US
_SHORTEST_SPAN_US = 10_000
"""A change takes some milliseconds itself."""
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

_DEPENDENCE_SHORT = {
    "eim": Dependence.ENDPOINT_INDEPENDENT,
    "adm": Dependence.ADDRESS_DEPENDENT,
    "apdm": Dependence.ADDRESS_AND_PORT_DEPENDENT,
    "eif": Dependence.ENDPOINT_INDEPENDENT,
    "adf": Dependence.ADDRESS_DEPENDENT,
    "apdf": Dependence.ADDRESS_AND_PORT_DEPENDENT,
}


def _word(kind: type[StrEnum], value: Any, more: dict[Any, Any] | None = None) -> Any:
    """The member of `kind` that `value` names, also by a word of `more`."""
    more = more or {}
    if isinstance(value, kind):
        return value
    if isinstance(value, bool | str) and value in more:
        return more[value]
    words = [*kind, *(word for word in more if isinstance(word, str))]
    if value in words:
        return kind(value)
    raise WrongValueError(f"unknown word {show(str(value))}", one_of(str(value), words, "words"))


def _between(least: float, most: float, value: Any, what: str, written: Any = None) -> Any:
    """`value` itself; if it is out of bounds, the error quotes what was `written`."""
    if not least <= value <= most:
        shown = show(value if written is None else written)
        raise WrongValueError(f"{shown} is out of bounds", what)
    return value


def _delay(value: Any) -> Any:
    return _between(0, _HOUR_US, parse_duration(value), "a delay is at most 1h", value)


def _link_rate(value: Any) -> Any:
    rate = parse_rate(value)
    return _between(1_000, 10**12, rate, "rates are 1kbit to 1000gbit", value) if rate else 0


def _moment(value: Any) -> Any:
    if isinstance(value, str) and value.strip().startswith("-"):
        raise WrongValueError(
            f"{show(value)} is before the lab is up", "moments count from then on: at: 20s"
        )
    return _between(0, _MONTH_US, parse_duration(value), "a lab lives for at most 720h", value)


def _span(value: Any) -> Any:
    us = parse_duration(value)
    if us < _SHORTEST_SPAN_US:
        raise WrongValueError(f"{show(value)} is too short", "write at least 10ms")
    return _between(0, _MONTH_US, us, "a span is at most 720h", value)


def _lifetime(value: Any) -> Any:
    us = parse_duration(value)
    if us % 1_000_000 or not us:
        raise WrongValueError(f"{show(value)} is not whole seconds", "write 30s, 2m or 2h")
    return _between(1, 10 * 86_400, us // 1_000_000, "a lifetime is at most 240h", value)


def _mtu(value: Any) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongValueError(f"{show(value)} is not a number of bytes", "write mtu: 1500")
    return _between(68, 65_535, value, "an IPv4 MTU is 68 (RFC 791) to 65535 bytes; usual is 1500")


def _count(value: Any) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongValueError(f"{show(value)} is not a count", "write a whole number")
    return _between(1, MAX_COUNT, value, f"a count is 1 to {MAX_COUNT}")


def _seed(value: Any) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongValueError(f"{show(value)} is not a seed", "write a whole number")
    return _between(0, 2**63 - 1, value, "a seed is 0 to 2^63-1")


def _cpus(value: Any) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WrongValueError(f"{show(value)} is not a number of CPUs", "write 0.5 or 2")
    return float(_between(0.01, 1024, value, "write 0.01 to 1024 CPUs"))


def _memory(value: Any) -> Any:
    return _between(2**20, 2**50, parse_size(value), "a program needs 1MiB to 1024TiB", value)


def _ip(value: Any) -> Any:
    number = isinstance(value, int) and not isinstance(value, bool)
    return _word(Ip, str(value) if number else value)


_NETWORK_IPS = (Ip.V4, Ip.V6, Ip.DUAL)


def _network_ip(value: Any) -> Any:
    if value == Ip.LINK_LOCAL:
        raise WrongValueError(
            f"{value} is for nodes", "write it at each, or attach them to a switch without a router"
        )
    if str(value) not in _NETWORK_IPS:
        words = list(map(str, _NETWORK_IPS))
        raise WrongValueError(
            f"unknown word {show(str(value))}", one_of(str(value), words, "words")
        )
    return _ip(value)


NAT64_PREFIX = "64:ff9b::/96"
"""Well known (RFC 6052, section 2.1)."""
_NAT64_HELP = "write nat64: true, or a prefix of 96 bits such as 2a02:64::/96 (RFC 6052)"


def _nat64(value: Any) -> Any:
    """The prefix: true for the well-known one, empty for none."""
    if isinstance(value, bool):
        return NAT64_PREFIX if value else ""
    try:
        prefix = ipaddress.IPv6Network(value if isinstance(value, str) else "")
    except ValueError:
        raise WrongValueError(f"{show(value)} is not an IPv6 prefix", _NAT64_HELP) from None
    if prefix.prefixlen != 96:
        raise WrongValueError(f"{show(value)} has {prefix.prefixlen} bits", _NAT64_HELP)
    if prefix.is_multicast or prefix.is_link_local or prefix.is_loopback or prefix.is_unspecified:
        raise WrongValueError(f"{show(value)} is not routed anywhere", _NAT64_HELP)
    return str(prefix)


def _service(word: Any) -> str:
    if not isinstance(word, str) or word not in SERVICE_WORDS:
        raise WrongValueError(
            f"unknown service {show(word)}", one_of(str(word), list(SERVICE_WORDS), "services")
        )
    return SERVICE_WORDS[word]


def _services(value: Any) -> Any:
    """Each service and its port; 0 for the usual one."""
    if isinstance(value, dict):
        return dict(each(((word, (word, more)) for word, more in value.items()), _at_a_port))
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list):
        raise WrongValueError(f"{show(value)} is not a service", _SERVICE_HELP)
    return dict.fromkeys(each(enumerate(words), _service), 0)


def _at_a_port(item: tuple[str, Any]) -> tuple[str, int]:
    word, more = item
    service = _service(word)
    if more is None:
        return service, 0
    if not isinstance(more, dict) or set(more) != {"port"}:
        raise WrongValueError(
            f"{show(more)} says nothing about {word}", f"write service: {{{word}: {{port: 443}}}}"
        )
    return service, _one_port(more["port"], ())


_SERVICE_HELP = f"services: {', '.join(SERVICE_WORDS)}"


_PORT_MAPPING_WORDS = {"upnp": "upnp", "pcp": "pcp", "nat-pmp": "pcp"}
_PORT_MAPPING_HELP = f"write one of {', '.join(_PORT_MAPPING_WORDS)}, a list, true or false"


def _port_mapping(value: Any) -> Any:
    """The protocols: PCP's and NAT-PMP's names mean both, as they share a port."""
    if isinstance(value, bool):
        return ["upnp", "pcp"] if value else []
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list):
        raise WrongValueError(f"{show(value)} is not a protocol", _PORT_MAPPING_HELP)
    return list(dict.fromkeys(each(enumerate(words), _port_mapping_word)))


def _port_mapping_word(word: Any) -> str:
    if word not in _PORT_MAPPING_WORDS:
        raise WrongValueError(f"{show(word)} is not a protocol", _PORT_MAPPING_HELP)
    return _PORT_MAPPING_WORDS[word]


def _command(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise WrongValueError(
                f"the command can't be split into words: {str(error).lower()}",
                "close the quotation, or write a list of words",
            ) from None
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise WrongValueError(f"{show(value)} is not a command", "write it as text or a list")
    if not value or not value[0]:
        raise WrongValueError("the command is empty", "leave it out, or write what is to run")
    return value


def _variable(item: tuple[str, Any]) -> tuple[str, str]:
    name, text = item
    if not _ENV_NAME.fullmatch(name):
        raise WrongValueError(
            f"{show(name)} can't name an environment variable", "use letters, digits and _"
        )
    if name.startswith("LAB_"):
        raise WrongValueError(f"the variable {name} belongs to lab", "choose a name without LAB_")
    if not isinstance(text, str):
        raise WrongValueError(f"{name} is {show(text)}", "write its value as text")
    return name, text


def _env(value: Any) -> Any:
    if not isinstance(value, dict):
        raise WrongValueError(f"{show(value)} is not a mapping", "write env: {MODE: test}")
    return dict(each(((name, (name, text)) for name, text in value.items()), _variable))


def _mount(value: Any) -> Any:
    parts = value.split(":") if isinstance(value, str) else []
    if not (len(parts) == 2 or (len(parts) == 3 and parts[2] in ("ro", "rw"))) or not all(parts):
        raise WrongValueError(f"{show(value)} is not a mount", "write source:target or with :ro")
    if not parts[1].startswith("/"):
        raise WrongValueError(f"the target {show(parts[1])} is relative", "begin it with /")
    return Mount(source=parts[0], target=parts[1], read_only=parts[2:] == ["ro"])


def _mounts(value: Any) -> Any:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise WrongValueError(f"{show(value)} is not a mount", "write source:target or with :ro")
    return each(enumerate(items), _mount)


def _image(value: Any) -> Any:
    if not isinstance(value, str) or not value or re.search(r"\s", value):
        raise WrongValueError(f"{show(value)} can't name an image", "write example/my-peer:1")
    return value


def _link_ends(value: Any) -> Any:
    words = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(words, list) or len(words) != 2 or not all(isinstance(w, str) for w in words):
        raise WrongValueError(
            f"{show(value)} does not name a link", "write its ends: [alice, home]"
        )
    if words[0] == words[1]:
        raise WrongValueError(f"{show(value)} names one end twice", "write both: [alice, home]")
    return tuple(words)


PARTITION_HELP = "write groups: alice, bob / carol; one group is kept apart from the rest"


def parse_partition(value: Any) -> tuple[tuple[str, ...], ...]:
    """The groups of `alice, bob / carol`, or of a list of lists; WrongValueError if they aren't."""
    groups = value
    if isinstance(value, str):
        groups = [part.replace(",", " ").split() for part in value.split("/")]
    if not isinstance(groups, list) or not groups:
        raise WrongValueError(f"{show(value)} is no partition", PARTITION_HELP)
    for group in groups:
        if not isinstance(group, list) or not all(isinstance(name, str) for name in group):
            raise WrongValueError(f"{show(group)} is no group of names", PARTITION_HELP)
        if not group:
            raise WrongValueError(f"{show(value)} has an empty group", PARTITION_HELP)
    return tuple(tuple(dict.fromkeys(group)) for group in groups)


def _outcome(value: Any) -> Any:
    if value not in OUTCOMES:
        raise WrongValueError(
            f"unknown outcome {show(value)}", one_of(str(value), OUTCOMES, "outcomes")
        )
    return value


def _direction(preposition: Literal["to", "from"], value: Any) -> Any:
    """A direction of a firewall: a list of rules, or rules with a default of their own.

    A list that admits something admits nothing else; a list that only
    refuses lets everything else pass.
    """
    default = None
    rules = value
    if isinstance(value, dict):
        unknown = [key for key in value if key not in ("default", "rules")]
        if unknown:
            raise WrongValueError(
                f"unknown key {show(unknown[0])}", "keys: default, rules", at=(unknown[0],)
            )
        default, rules = value.get("default"), value.get("rules")
        rules = [] if rules is None else rules
        if default is not None:
            try:
                default = _word(Verdict, default)
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
    if unknown := [key for key in value if key not in ("port", "connect")]:
        raise WrongValueError(
            f"unknown key {show(unknown[0])}", "keys: port, connect", at=(unknown[0],)
        )
    usual = Proxy()
    port = _one_port(value["port"], ("port",)) if "port" in value else usual.port
    connect = value.get("connect", True)
    if isinstance(connect, bool):
        ports = usual.connect if connect else ()
    else:
        numbers = connect if isinstance(connect, list) else [connect]
        ports = tuple(_one_port(number, ("connect",)) for number in numbers)
    return Proxy(port=port, connect=ports)


def _one_port(value: Any, at: tuple[str, ...]) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise WrongValueError(f"{show(value)} is not a port", "ports are 1 to 65535", at=at)
    return value


# --- the types --------------------------------------------------------------


def _text(description: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": description})


def _one_or_two(description: str) -> WithJsonSchema:
    several = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}
    return WithJsonSchema({"anyOf": [{"type": "string"}, several], "description": description})


def _words(kind: type[StrEnum], *more: str | bool) -> WithJsonSchema:
    return WithJsonSchema({"enum": [*(str(word) for word in kind), *more]})


_HAIRPIN_SWITCH = {True: Hairpin.EXTERNAL_SOURCE, False: Hairpin.OFF}
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
_WORD_OR_LIST = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
_SERVICE = {"enum": list(SERVICE_WORDS)}

RegionsField = Annotated[Any, WithJsonSchema({"type": ["string", "object"]})]
LinkEnds = Annotated[
    tuple[str, str],
    BeforeValidator(_link_ends),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}),
]
PartitionField = Annotated[
    tuple[tuple[str, ...], ...],
    BeforeValidator(parse_partition),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array"}]}),
]
DelayField = Annotated[int, BeforeValidator(_delay), _text(f"One way. {DURATION_HELP}")]
RateField = Annotated[int, BeforeValidator(_link_rate), _text(RATE_HELP)]
LossField = Annotated[
    float,
    BeforeValidator(parse_probability),
    WithJsonSchema({"type": ["string", "number"], "description": PROBABILITY_HELP}),
]
MtuField = Annotated[
    int,
    BeforeValidator(_mtu),
    WithJsonSchema({"type": "integer", "minimum": 68, "maximum": 65_535}),
]
MomentField = Annotated[
    int, BeforeValidator(_moment), _text(f"Since the lab was up. {DURATION_HELP}")
]
SpanField = Annotated[int, BeforeValidator(_span), _text(DURATION_HELP)]
LifetimeField = Annotated[int, BeforeValidator(_lifetime), _text("Whole seconds: 30s, 2m, 2h")]
PortRange = Annotated[
    tuple[int, int],
    BeforeValidator(parse_ports),
    WithJsonSchema({"type": ["string", "integer"], "description": "1024-65535"}),
]
CountField = Annotated[
    int,
    BeforeValidator(_count),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_COUNT}),
]
SeedField = Annotated[
    int, BeforeValidator(_seed), WithJsonSchema({"type": "integer", "minimum": 0})
]
_IPS: list[int | str] = [4, 6, "4", "6", "dual"]
IpField = Annotated[Ip, BeforeValidator(_network_ip), WithJsonSchema({"enum": _IPS})]
NodeIpField = Annotated[
    Ip, BeforeValidator(_ip), WithJsonSchema({"enum": [*_IPS, str(Ip.LINK_LOCAL)]})
]
Nat64Field = Annotated[
    str, BeforeValidator(_nat64), WithJsonSchema({"type": ["boolean", "string"]})
]
AddressField = Annotated[
    Written, BeforeValidator(addresses), _one_or_two("An address of IPv4 or IPv6, or one of each")
]
LanField = Annotated[
    Written, BeforeValidator(prefixes), _one_or_two("A prefix: 192.168.1.0/24, 2a02:5::/64")
]
MemoryField = Annotated[int, BeforeValidator(_memory), _text(SIZE_HELP)]
CpusField = Annotated[
    float, BeforeValidator(_cpus), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})
]
ServicesField = Annotated[
    dict[str, int],
    BeforeValidator(_services),
    WithJsonSchema(
        {
            "anyOf": [
                _SERVICE,
                {"type": "array", "items": _SERVICE},
                {
                    "type": "object",
                    "propertyNames": _SERVICE,
                    "additionalProperties": {
                        "type": ["object", "null"],
                        "required": ["port"],
                        "additionalProperties": False,
                        "properties": {
                            "port": {"type": "integer", "minimum": 1, "maximum": 65_535}
                        },
                    },
                },
            ]
        }
    ),
]
_PORT_MAPPING = {"enum": list(_PORT_MAPPING_WORDS)}
PortMappingField = Annotated[
    list[str],
    BeforeValidator(_port_mapping),
    WithJsonSchema(
        {"anyOf": [{"type": "boolean"}, _PORT_MAPPING, {"type": "array", "items": _PORT_MAPPING}]}
    ),
]
ImageField = Annotated[str, BeforeValidator(_image), _text("example/my-peer:1")]
CommandField = Annotated[
    list[str], BeforeValidator(_command), WithJsonSchema({"anyOf": _WORD_OR_LIST})
]
EnvField = Annotated[
    dict[str, str],
    BeforeValidator(_env),
    WithJsonSchema(
        {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
    ),
]
MountsField = Annotated[
    list[Mount], BeforeValidator(_mounts), WithJsonSchema({"anyOf": _WORD_OR_LIST})
]
OutcomeField = Annotated[str, BeforeValidator(_outcome), WithJsonSchema({"enum": list(OUTCOMES)})]
DependenceField = Annotated[
    Dependence,
    BeforeValidator(partial(_word, Dependence, more=_DEPENDENCE_SHORT)),
    _words(Dependence, *_DEPENDENCE_SHORT),
]
PortPolicyField = Annotated[
    PortPolicy, BeforeValidator(partial(_word, PortPolicy)), _words(PortPolicy)
]
HairpinField = Annotated[
    Hairpin,
    BeforeValidator(partial(_word, Hairpin, more=_HAIRPIN_SWITCH)),
    _words(Hairpin, True, False),
]
PoolingField = Annotated[Pooling, BeforeValidator(partial(_word, Pooling)), _words(Pooling)]
RefreshField = Annotated[Refresh, BeforeValidator(partial(_word, Refresh)), _words(Refresh)]
UnsolicitedField = Annotated[
    Unsolicited, BeforeValidator(partial(_word, Unsolicited)), _words(Unsolicited)
]
BackendField = Annotated[
    WantedBackend, BeforeValidator(partial(_word, WantedBackend)), _words(WantedBackend)
]
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
