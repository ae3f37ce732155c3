"""What programs report: bounded, harmless to print, and nobody else's."""

import json

from hypothesis import given
from hypothesis import strategies as st

from lab.observe.attempts import AttemptTally
from lab.observe.reported import ITEMS_LIMIT, KEYS_LIMIT, TEXT_LIMIT, Source, accepted
from lab.observe.state import program_label
from lab.plan.model import Program
from lab.topology.behaviour import Runtime
from lab.topology.outcomes import OUTCOMES
from tests.unit.observe_support import attempt

REPORTED = Source.REPORTED


def test_a_record_as_in_the_contract_stays_as_it_is():
    record = attempt(tries=[{"outcome": "refused", "at_s": 0.5}], packets={"stun": 2})
    kept = accepted(record, local="alice", program="lab", source=Source.ORDERED)
    assert kept == record


def test_a_program_speaks_for_its_own_node_alone():
    told = attempt(local="bob", program="lab", technique="webrtc")
    kept = accepted(told, local="alice", program="call.py", source=REPORTED)
    assert (kept["local"], kept["program"], kept["technique"]) == ("alice", "call.py", "webrtc")


def test_a_program_does_not_say_that_its_path_is_proven():
    claims = {"proven": True, "proof": {"proven": True}, "distorted": [], "source": "ordered"}
    kept = accepted(attempt(**claims), local="a", program="p", source=REPORTED)
    assert (kept["source"], kept["proven"]) == ("reported", False)
    assert not {"proof", "distorted"} & kept.keys()
    kept = accepted(attempt(**claims), local="a", program="p", source=Source.ORDERED)
    assert not {"proven", "proof", "distorted"} & kept.keys()


def test_outcomes_and_paths_that_there_are_not():
    for outcome in ("failure", "hooray", None, 3, ["success"]):
        kept = accepted(
            attempt(outcome=outcome, path="scenic"), local="a", program="p", source=REPORTED
        )
        assert kept["outcome"] == "failed"
        assert kept["path"] is None
        assert "an outcome that there is not" in kept["reason"]
    assert accepted({}, local="a", program="p", source=REPORTED)["outcome"] == "failed"


junk = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.just([0] * 300) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text() | st.sampled_from(["outcome", "path", "local"]), junk))
def test_whatever_is_reported_is_bounded_and_printable(told):
    kept = accepted(told, local="alice", program="own", source=REPORTED)
    json.dumps(kept, allow_nan=False)
    assert kept["outcome"] in OUTCOMES
    _check(kept, 5)
    AttemptTally().add(kept)


def _check(value, depth):
    assert depth
    if isinstance(value, str):
        assert len(value) <= TEXT_LIMIT
        assert value.isprintable()
    elif isinstance(value, dict):
        assert len(value) <= KEYS_LIMIT + 4
        for key, inner in value.items():
            _check(key, depth)
            _check(inner, depth - 1)
    elif isinstance(value, list):
        assert len(value) <= ITEMS_LIMIT
        for inner in value:
            _check(inner, depth - 1)
    elif isinstance(value, int):
        assert abs(value) <= 2**53


def test_depth_and_length_are_bounded():
    deep = {}
    for _ in range(50):
        deep = {"in": [deep]}
    kept = accepted({"deep": deep, "long": "x" * 10**6}, local="a", program="p", source=REPORTED)
    assert len(json.dumps(kept)) < 1000


def test_what_programs_are_called():
    def label(*command, **more):
        return program_label(Program(runtime=Runtime.PROCESS, command=command, **more))

    assert label("/usr/bin/python3", "/lessons/webrtc/call.py", "bob") == "call.py"
    assert label("/opt/peer", "--config", "x") == "peer"
    assert label("sh", "-c", "exec ./run.sh /tmp/x.log") == "sh"
    assert label(image="example/peer:1") == "example/peer:1"
    assert label(roles=("peer",), image="peerlab/peer:0123") == "lab"
