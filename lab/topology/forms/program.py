"""What a node runs: services, a command or an image, its environment and its limits."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    WithJsonSchema,
)

from lab.topology.behaviour import (
    Mount,
)
from lab.topology.forms.values import between, port_number, text_schema
from lab.topology.problems import WrongValueError, each, one_of, show
from lab.topology.units import (
    SIZE_HELP,
    parse_size,
)

SERVICES = ("stun", "rendezvous", "relay", "web-relay", "coturn")
SERVICE_WORDS = {**{word: word for word in SERVICES}, "turn": "relay"}


_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def _cpus(value: Any) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WrongValueError(f"{show(value)} is not a number of CPUs", "write 0.5 or 2")
    return float(between(0.01, 1024, value, "write 0.01 to 1024 CPUs"))


def _memory(value: Any) -> Any:
    return between(2**20, 2**50, parse_size(value), "a program needs 1MiB to 1024TiB", value)


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
    return service, port_number(more["port"], ())


_SERVICE_HELP = f"services: {', '.join(SERVICE_WORDS)}"


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


_WORD_OR_LIST = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
_SERVICE = {"enum": list(SERVICE_WORDS)}


MemoryField = Annotated[int, BeforeValidator(_memory), text_schema(SIZE_HELP)]
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


ImageField = Annotated[str, BeforeValidator(_image), text_schema("example/my-peer:1")]
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
