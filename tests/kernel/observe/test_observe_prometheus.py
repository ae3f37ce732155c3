"""Our configuration, rules and dashboard in a real Prometheus that scrapes our exporter."""

import json
import re
import secrets
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

from lab.fabric.links.ferry.protocol import DirectionStats, FerryStats, LinkStats
from lab.observe.exporter import Exporter
from lab.observe.health import HealthSampler
from lab.paths import LabPaths, data_dir
from tests.kernel.observe_support import build, remove
from tests.unit.observe_support import attempt, many_homes, samples, scrape

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        shutil.which("prometheus") is None or shutil.which("promtool") is None,
        reason="needs prometheus: apt-get install prometheus",
    ),
]

METRICS = data_dir("metrics")
DEADLINE_S = 60.0
LAB = f"t-observe-{secrets.token_hex(3)}"


class Prometheus:
    """A running Prometheus and its HTTP interface, at `address`."""

    def __init__(self, address: str) -> None:
        self._root = f"http://{address}"

    def get(self, path: str, **arguments: str) -> str:
        query = urllib.parse.urlencode(arguments)
        with urllib.request.urlopen(f"{self._root}{path}?{query}", timeout=30) as answer:  # noqa: S310 - http, written above
            return answer.read().decode()

    def query(self, expression: str) -> list[dict]:
        """The result of an instant query; the error text in an assertion if it is refused."""
        try:
            answer = json.loads(self.get("/api/v1/query", query=expression))
        except urllib.error.HTTPError as error:
            pytest.fail(f"{expression}: {error.read().decode()}")
        return answer["data"]["result"]

    def wait_for(self, expression: str) -> list[dict]:
        """The first result that is not empty."""
        return eventually(lambda: self.query(expression), expression)


def eventually(look, what: str):
    """The first true answer of `look`; nothing here can be waited for but by asking again."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        threading.Event().wait(0.1)
    pytest.fail(f"not within {DEADLINE_S:.0f} s: {what}")


@pytest.fixture(scope="module")
def exporter(tmp_path_factory):
    """An exporter of a real network that has something of everything; (root, port)."""
    root = tmp_path_factory.mktemp("labs")
    plan = many_homes(2, LAB)
    paths = LabPaths(root / LAB)
    wan = next(link for link in plan.links if link.a.node == "home-1")
    ferry = FerryStats(
        links=(LinkStats(name=wan.name, a_to_b=DirectionStats(packets=1), b_to_a=DirectionStats()),)
    )
    sampler = HealthSampler(ferry=lambda: ferry)
    made = Exporter(paths, lambda: plan, dict, sampler)
    for technique, outcome in (("direct", "unreachable"), ("udp-punch", "success")):
        made.record_attempt(attempt(technique, outcome))
    made.record_attempt(attempt("relay"))
    try:
        build(paths, plan)
        yield root, made.start()
    finally:
        made.close()
        sampler.close()
        remove(paths)


@pytest.fixture(scope="module")
def prometheus(exporter, tmp_path_factory):
    """A Prometheus with our configuration, pointed at the test's labs and in more of a hurry."""
    root, _ = exporter
    folder = tmp_path_factory.mktemp("prometheus")
    text = (METRICS / "prometheus.yml").read_text()
    assert "/run/lab/*.target.json" in text
    text = text.replace("/run/lab/", f"{root}/").replace("interval: 5s", "interval: 1s")
    text = text.replace("scrape_timeout: 2s", "scrape_timeout: 1s")
    (folder / "prometheus.yml").write_text(text)
    shutil.copy(METRICS / "rules.yml", folder)
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            # Any that is free; it says which.
            "--web.listen-address=127.0.0.1:0",
        ],
        stdout=log,
        stderr=log,
    )
    try:

        def found() -> re.Match[str] | None:
            said = (folder / "log").read_text()
            assert process.poll() is None, said
            return re.search(r'"Listening on" address=(127\.0\.0\.1:\d+)', said)

        server = Prometheus(eventually(found, "prometheus listens")[1])

        def ready() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return "Ready" in server.get("/-/ready")
            except OSError:
                return False

        eventually(ready, "prometheus is ready")
        yield server
    finally:
        process.terminate()
        process.wait(60)
        log.close()


def dashboard() -> dict:
    return json.loads((METRICS / "dashboards" / "lab.json").read_text())


def queries() -> list[str]:
    """Every query of the dashboard, its variables filled in as Grafana would."""
    found = [
        target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())
    ]
    return [
        query.replace("$__rate_interval", "30s").replace("$lab", ".*").replace("$node", ".*")
        for query in found
    ]


def names_in(query: str) -> set[str]:
    """The metrics that a query names."""
    bare = re.sub(r"\{[^}]*\}", "", query)
    bare = re.sub(r"\b(by|on|without|ignoring)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"\b(?:lab|process)[a-z0-9_:]*", bare))


def recorded() -> dict[str, str]:
    """Recording rules: name and expression, from rules.yml as promtool will read it."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - only here

    groups = YAML(typ="safe").load((METRICS / "rules.yml").read_text())["groups"]
    return {
        rule["record"]: rule["expr"]
        for group in groups
        for rule in group["rules"]
        if "record" in rule
    }


def test_promtool_accepts_the_configuration_and_the_rules():
    for check in (("config", "prometheus.yml"), ("rules", "rules.yml")):
        done = subprocess.run(
            ["promtool", "check", check[0], str(METRICS / check[1])],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_has_nothing_to_complain_about_in_the_metrics(exporter):
    _, port = exporter
    ours = "".join(
        f"{line}\n"
        for line in scrape(port).splitlines()
        if not re.match(r"(# \w+ )?process_", line)
    )
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=ours, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_prometheus_finds_the_lab_and_keeps_its_values(prometheus):
    (up,) = prometheus.wait_for('up{job="lab"} == 1')
    assert up["metric"]["lab"] == LAB
    (info,) = prometheus.wait_for("lab_info")
    assert (info["metric"]["lab"], info["metric"]["name"]) == (LAB, LAB)
    (relayed,) = prometheus.wait_for('lab_connect_attempts_total{technique="relay"}')
    assert relayed["value"][1] == "1"
    (ratio,) = prometheus.wait_for('lab_technique:connect_success:ratio{technique="udp-punch"}')
    assert ratio["value"][1] == "1"
    (share,) = prometheus.wait_for("lab:connect_relayed:ratio")
    assert share["value"][1] == "0.5"


def test_every_rule_gives_something(prometheus):
    for name in recorded():
        if name != "lab:ferry_lateness_seconds:p99":  # no frame was late here
            assert prometheus.wait_for(name), name
    groups = json.loads(prometheus.get("/api/v1/rules"))["data"]["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}


def test_every_query_of_the_dashboard_is_understood_and_names_what_there_is(prometheus, exporter):
    _, port = exporter
    served = set(samples(scrape(port))) | set(recorded())
    assert len(queries()) > 30
    for query in (*queries(), *recorded().values()):
        prometheus.query(query)
        assert names_in(query), query
        assert names_in(query) <= served, query


def test_the_panels_show_something(prometheus):
    """All but those that show what should not happen, and those of links that no frame used."""
    for query in queries():
        if not ("> 0" in query or "lab_ferry" in query or "lab:ferry" in query):
            prometheus.wait_for(query)


def test_the_dashboard_is_complete():
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        cells |= taken
    assert {variable["name"] for variable in dashboard()["templating"]["list"]} == {
        "datasource",
        "lab",
        "node",
    }


def test_grafana_is_told_where_things_are():
    folder = METRICS / "provisioning"
    assert "uid: lab" in (folder / "datasources" / "lab.yml").read_text()
    assert "$LAB_DASHBOARDS" in (folder / "dashboards" / "lab.yml").read_text()
