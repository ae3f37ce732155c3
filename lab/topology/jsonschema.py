"""The JSON Schema of a topology file, for editors (`lab schema`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.topology.forms.file import FileForm
from lab.topology.forms.firewall import FirewallForm
from lab.topology.forms.link import InternetForm, LinkForm
from lab.topology.forms.nat import NatForm, PortMappingForm, PortsForm
from lab.topology.names import NAME
from lab.topology.presets import Preset, Presets

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema: forms as they are validated, terse forms and preset names included.

    What a schema can't say (circles, addresses, the dealing out of counts)
    only `lab validate` finds.
    """
    schema = FileForm.model_json_schema()
    forms = schema["$defs"]
    presets = Presets()
    _allow_preset(forms, NatForm.__name__, presets.nat)
    _allow_preset(forms, LinkForm.__name__, presets.link)
    _allow_preset(forms, FirewallForm.__name__, presets.firewall)
    _allow_word(forms, PortsForm.__name__, forms[PortsForm.__name__]["properties"]["policy"])
    mapping = forms[PortMappingForm.__name__]
    _allow_word(forms, PortMappingForm.__name__, mapping["properties"]["protocols"])
    _allow_word(forms, InternetForm.__name__, {"type": ["string", "integer"]})
    for form in ("RouterForm", "SwitchForm"):
        forms[form]["type"] = ["object", "null"]
    names = {"pattern": f"^{NAME.pattern}$", "not": {"const": "internet"}}
    for section in ("routers", "switches", "nodes"):
        schema["properties"][section]["anyOf"][0]["propertyNames"] = names
    for form in (schema, *forms.values()):
        _untitle(form)
    return {"$schema": DIALECT, "title": "A topology of lab", **schema}


def _allow_preset(forms: dict[str, Any], form: str, presets: Mapping[str, Preset[Any]]) -> None:
    """Let the name of a preset stand for `form`, each with its description."""
    word = {
        "oneOf": [
            {"const": preset.name, "description": f"{preset.description} Source: {preset.source}"}
            for preset in presets.values()
        ]
    }
    forms[form]["properties"]["preset"] = {**word, "description": "What the other keys change."}
    _allow_word(forms, form, word)


def _allow_word(forms: dict[str, Any], form: str, word: Mapping[str, Any]) -> None:
    inner = forms[form]
    forms[form] = {"description": inner.pop("description"), "anyOf": [dict(word), inner]}


def _untitle(schema: Any) -> None:
    """Take out the titles that pydantic makes of class and field names."""
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for child in schema.values():
            _untitle(child)
    elif isinstance(schema, list):
        for child in schema:
            _untitle(child)
