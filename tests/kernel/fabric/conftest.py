from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from fabric_support import Bench

from lab.fabric.journal import read
from lab.fabric.teardown import remove_namespaces


@pytest.fixture
def new_bench(tmp_path, monkeypatch) -> Iterator:
    """Makes labs of the fabric with names of their own, and removes what they left."""
    monkeypatch.setenv("LAB_STATE_DIR", str(tmp_path))
    made: list[Bench] = []

    def make() -> Bench:
        made.append(Bench(f"t-fabric-{secrets.token_hex(3)}"))
        return made[-1]

    yield make
    for bench in made:
        bench.network.close()
        remove_namespaces(read(bench.paths.journal))


@pytest.fixture
def bench(new_bench) -> Bench:
    return new_bench()
