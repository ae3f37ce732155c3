"""What ships: topologies, presets, the JSON Schema, and the commands that read them."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from lab.cli.schema import command as schema_command
from lab.cli.validate import command as validate_command
from lab.errors import InputError
from lab.paths import data_dir
from lab.topology.compose import parse
from lab.topology.document import plain
from lab.topology.files import shipped
from lab.topology.jsonschema import json_schema
from lab.topology.loader import load
from lab.topology.presets import Presets
from lab.topology.problems import TopologyError

NAMES = [
    "ad-hoc",
    "blocked-udp",
    "cgnat",
    "continents",
    "corporate",
    "double-nat",
    "dual-stack",
    "faults",
    "http-only",
    "ipv6-only",
    "lan",
    "mobile-handover",
    "nptv6",
    "single-nat",
    "symmetric-pair",
    "two-homes",
    "upnp-home",
]

GOOD = """
nodes:
  alice: {via: internet, link: {delay: 5ms}}
routers:
  plain:
  home: {via: plain, nat: {preset: cgnat, ports: {block: 64}}, firewall: {outbound: [tcp/80]}}
internet: {delay: 10ms, loss: 0.01}
"""


def test_the_topologies_that_ship():
    assert shipped() == NAMES


LESSONS = ["bring-your-own/bittorrent", "bring-your-own/shell", "bring-your-own/webrtc"]


def test_programs_of_ones_own_ship_with_their_topologies(validator):
    folder = data_dir("topologies")
    found = sorted(str(file.relative_to(folder))[:-5] for file in folder.glob("*/*.yaml"))
    assert found == LESSONS
    for name in LESSONS:
        topology = load(name)
        assert f"bring-your-own/{topology.name}" == name
        assert topology.description
        text = (folder / f"{name}.yaml").read_text()
        assert text.startswith("# ")
        assert "What there is to learn" in text
        assert f"lab up {name}" in text
        assert _valid(validator, text)
        beside = [
            word for node in topology.nodes for word in node.command if word.startswith(str(folder))
        ]
        assert beside
        assert all(Path(word).is_file() for word in beside)


def test_a_file_of_ones_own_comes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bring-your-own").mkdir()
    (tmp_path / "bring-your-own" / "shell").write_text("name: mine\nnodes: {a: {via: internet}}\n")
    assert load("bring-your-own/shell").name == "mine"
    with pytest.raises(InputError, match="no such file"):
        load("./bring-your-own/webrtc.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_topology_is_a_lesson(name):
    topology = load(name)
    assert topology.name == name
    assert topology.description
    assert {node.name for node in topology.nodes if node.peer} >= {"alice", "bob"}
    services = {service for node in topology.nodes for service in node.services}
    # What has no router has nobody to ask either.
    assert services - {"web-relay"} == (
        {"stun", "rendezvous", "relay"} if topology.routers else set()
    )
    expected = {(one.local, one.remote): dict(one.outcomes) for one in topology.expect}
    assert expected["alice", "bob"]["path"] in ("direct", "relayed", "none")
    text = (data_dir("topologies") / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert "What there is to learn" in text


def test_the_overrides_that_comments_suggest_are_right():
    for name in NAMES:
        text = (data_dir("topologies") / f"{name}.yaml").read_text()
        for override in re.findall(r"--set (\S+)", text):
            assert load(name, [override])


def test_every_preset_says_what_it_is_and_where_from():
    presets = Presets()
    assert {"none", "home", "full-cone", "restricted-cone", "symmetric", "cgnat"} <= set(
        presets.nat
    )
    assert {"lan", "wifi", "dsl", "cable", "fibre", "lte", "satellite-geo"} <= set(presets.link)
    assert {"open", "stateful", "udp-blocked", "corporate", "http-only", "captive"} <= set(
        presets.firewall
    )
    for kind in (presets.nat, presets.link, presets.firewall):
        for name, preset in kind.items():
            assert preset.name == name
            assert preset.description.endswith(".")
            assert preset.source
            assert preset.behaviour is None or preset.behaviour.preset == name


# --- the JSON Schema ------------------------------------------------------------


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def _valid(validator, text):
    return validator.is_valid(plain(parse(text, "t.yaml").root))


@pytest.mark.parametrize("name", NAMES)
def test_shipped_topologies_follow_the_schema(validator, name):
    assert _valid(validator, (data_dir("topologies") / f"{name}.yaml").read_text())


def test_the_schema_admits_terse_and_exact_forms(validator):
    assert _valid(validator, GOOD)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("preset: cgnat", "preset: cgnta"),
        ("via: plain", "vai: plain"),
        ("block: 64", "block: none"),
        ("alice:", "Alice:"),
        ("nodes:", "knots:"),
        ("outbound: [tcp/80]", "outbound: {rules: 5}"),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(validator, right, wrong):
    assert not _valid(validator, GOOD.replace(right, wrong))


def test_the_schema_explains_keys_and_presets():
    text = json.dumps(json_schema())
    assert "RFC 4787, section 4.1" in text
    assert "ADSL2+ over a telephone line." in text
    assert '"title": "A topology of lab"' in text


# --- the commands ---------------------------------------------------------------


def _run(command, *arguments):
    return CliRunner().invoke(command, arguments)


def test_schema_prints_the_schema():
    assert json.loads(_run(schema_command).stdout) == json_schema()


def test_validate_says_what_is_in_the_files():
    result = _run(validate_command, "lan", "double-nat")
    assert result.exit_code == 0
    assert result.stdout == (
        "lan: ok (lan: 1 router, 5 nodes)\ndouble-nat: ok (double-nat: 4 routers, 5 nodes)\n"
    )


@pytest.fixture
def bad(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("nodes:\n  alice: {via: hom}\n  bob: {peer: true}\n")
    return str(file)


def test_validate_reports_every_file(bad):
    result = _run(validate_command, bad, "lan", "nowhere.yaml")
    assert result.stdout.startswith("lan: ok")
    assert isinstance(result.exception, TopologyError)
    assert result.exception.exit_code == InputError.exit_code
    text = str(result.exception)
    assert f"{bad}:2: alice is attached to 'hom'" in text
    assert f"{bad}:3: nodes.bob is attached to nothing" in text
    assert "nowhere.yaml: there is no such file" in text


def test_validate_sees_what_is_wrong_together_alone(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(
        "routers:\n"
        "  carrier: {nat: cgnat, lan: 100.64.0.0/29}\n"
        "  home: {via: carrier, nat: {pool: 20}}\n"
    )
    with pytest.raises(TopologyError, match="too small") as caught:
        raise _run(validate_command, str(file)).exception
    (problem,) = caught.value.problems
    assert problem.where == f"{file}:2"
    assert problem.remedy == "Make it a /27 or larger."


def test_validate_answers_in_json(bad):
    result = _run(validate_command, "--json", bad, "lan", "--set", "seed=4")
    assert result.exit_code == 2
    answers = json.loads(result.stdout)
    assert [answer["valid"] for answer in answers] == [False, True]
    assert answers[0]["problems"][0]["where"] == f"{bad}:2"
    assert answers[1]["peers"] == 2


def test_validate_takes_overrides():
    assert _run(validate_command, "lan", "--set", "routers.home.nat=symmetric").exit_code == 0
    result = _run(validate_command, "lan", "--set", "routers.home.nat=simetric")
    assert "--set routers.home.nat=simetric" in str(result.exception)


def test_the_example_in_the_documentation_is_right(tmp_path, validator):
    text = (data_dir("topologies").parent / "docs" / "topology.md").read_text()
    example = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1]
    file = tmp_path / "example.yaml"
    file.write_text(example)
    assert load(file, ["routers.home-a.nat.ports=random"]).name == "example"
    assert _valid(validator, example)
