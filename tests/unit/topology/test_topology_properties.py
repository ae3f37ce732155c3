"""Whatever the loader is fed, it answers with a topology or with an InputError."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.errors import InputError
from lab.topology.loader import loads
from lab.topology.model import Topology
from lab.topology.problems import TopologyError

_KEYS = st.sampled_from(
    """name description seed internet routers nodes expect via nat firewall link lan address count
    peer service services image command env mounts memory cpus ready preset mapping filtering ports
    hairpin unsolicited lifetimes policy range stride block outbound inbound default rules rate
    delay loss mtu backend up down from to direct relay path udp-punch alice bob home <<""".split()  # noqa: SIM905 - a list of words reads better as text
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        """internet home alice bob home-1 10ms 1% 10mbit 256MB tcp/80 dsl stateful stun turn
        symmetric sequential 1024-2048 192.168.1.0/24 192.168.1.9 45.0.0.9 success a:/b""".split()  # noqa: SIM905 - as above
    ),
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_KEYS | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=20,
)

_NAMES = st.sampled_from(["alice", "bob", "home", "carrier", "internet", "home-1", "X"])


def _mappings(**values):
    return st.fixed_dictionaries({}, optional=values)


_LINKS = st.sampled_from(["dsl", "dls"]) | _mappings(
    preset=_SCALARS, rate=_SCALARS, delay=_SCALARS, loss=_SCALARS, mtu=_SCALARS, up=_TREES
)
_PORTS = _SCALARS | _mappings(
    policy=st.sampled_from(["block", "random", "sequential", "x"]),
    range=_SCALARS,
    stride=st.integers(-1, 3),
    block=st.integers(-1, 70_000),
)
_NATS = st.sampled_from(["home", "none", "cgnat", "symmetric", "hom"]) | _mappings(
    preset=st.sampled_from(["home", "none", "cgnat"]),
    mapping=st.sampled_from(["eim", "apdm", 1]),
    hairpin=_SCALARS,
    ports=_PORTS,
    lifetimes=_TREES,
)
_FIREWALLS = _SCALARS | _mappings(preset=_SCALARS, outbound=_TREES, inbound=st.lists(_SCALARS))
_COUNTS = st.integers(-1, 30) | _SCALARS
_FILES = _mappings(
    name=_NAMES,
    seed=_SCALARS,
    internet=_LINKS,
    routers=st.dictionaries(
        _NAMES,
        st.none()
        | _mappings(
            via=_NAMES, nat=_NATS, firewall=_FIREWALLS, link=_LINKS, count=_COUNTS, lan=_SCALARS,
            address=_SCALARS,
        ),
        max_size=4,
    ),
    nodes=st.dictionaries(
        _NAMES,
        _mappings(
            via=_NAMES, peer=st.booleans(), service=_SCALARS, count=_COUNTS, link=_LINKS,
            env=_TREES, mounts=_TREES, command=_TREES, memory=_SCALARS, address=_SCALARS,
        ),
        max_size=4,
    ),
    expect=st.lists(st.fixed_dictionaries({"from": _NAMES, "to": _NAMES}), max_size=2),
)  # fmt: skip


def _answer(text, overrides=()):
    try:
        answer = loads(text, "t.yaml", overrides)
    except InputError as error:
        str(error).encode()
        if isinstance(error, TopologyError):
            for problem in error.problems:
                assert problem.where.startswith(("t.yaml:", "--set "))
        return None
    assert isinstance(answer, Topology)
    return answer


_QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)


@_QUICK
@given(st.text(max_size=200))
def test_text(text):
    _answer(text)


@_QUICK
@given(st.text(alphabet=list(":-[]{}&*!|>%@`'\"#,?\\ \n\tabc<0"), max_size=60))
def test_text_of_yaml_signs(text):
    _answer(text)


@_QUICK
@given(_TREES)
def test_trees(tree):
    _answer(json.dumps(tree))


@_QUICK
@given(_FILES)
def test_nearly_right_files(tree):
    _answer(json.dumps(tree))


@_QUICK
@given(_FILES, st.lists(st.text(max_size=20) | st.builds(
    lambda path, value: ".".join(path) + "=" + value,
    st.lists(_KEYS | st.sampled_from(["0", "1"]), max_size=5),
    st.text(max_size=6) | st.sampled_from(["home", "10ms", "{via: internet}", "[1, 2]"]),
), max_size=3))  # fmt: skip
def test_overrides(tree, overrides):
    _answer(json.dumps(tree), overrides)


@_QUICK
@given(_FILES)
def test_what_is_understood_is_understood_again(tree):
    text = json.dumps(tree)
    assert _answer(text) == _answer(text)
