"""Kernel settings of many namespaces, written through one folder."""

import secrets
import threading
from pathlib import Path

import pytest

from lab.fabric import netns, sysctls
from lab.paths import NETNS_DIR

pytestmark = pytest.mark.kernel

SPACES = 80
"""More than one folder looks into."""


@pytest.fixture
def spaces():
    name = f"t-sysctl-{secrets.token_hex(3)}"
    made = [NETNS_DIR / f"{name}.{i}" for i in range(SPACES)]
    try:
        for path in made:
            netns.create(path)
        yield made
    finally:
        for path in made:
            netns.delete(path)


def value_in(path: Path) -> str:
    with netns.inside(path):
        return Path("/proc/sys/net/ipv4/ip_default_ttl").read_text().strip()


def test_each_namespace_gets_its_own_and_nothing_stays_open(spaces):
    before = set(Path("/proc/self/fd").iterdir())
    writer = sysctls.Writer()

    def write(part: int) -> None:
        for number in range(part, SPACES, 2):
            with netns.inside(spaces[number]):
                writer.apply((("ipv4/ip_default_ttl", str(100 + number)),), "node")

    threads = [threading.Thread(target=write, args=(part,)) for part in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [value_in(path) for path in spaces] == [str(100 + i) for i in range(SPACES)]
    writer.close()
    assert set(Path("/proc/self/fd").iterdir()) == before
    with netns.inside(spaces[0]):
        writer.apply((("ipv4/ip_default_ttl", "7"),), "node")
    writer.close()
    assert value_in(spaces[0]) == "7"
