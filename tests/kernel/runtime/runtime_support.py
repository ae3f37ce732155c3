"""A scratch lab for tests of programs: namespaces without links, a journal, and the runtimes."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import shutil
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from lab.fabric import netns
from lab.fabric.journal import Journal
from lab.paths import LabPaths
from lab.plan.model import Program
from lab.runtime import group, teardown
from lab.runtime.containers import Containers
from lab.runtime.docker import Engine
from lab.runtime.process import Exit, Zygote
from lab.topology.behaviour import Runtime


class Scratch:
    """A lab of one's own, removed by `clean`."""

    def __init__(self):
        self.paths = LabPaths.of(f"t-runtime-{secrets.token_hex(3)}")
        self.paths.root.mkdir(parents=True)
        self.journal = Journal.open(self.paths.journal)
        self.exits: list[Exit] = []
        self._waiting: list[tuple[str, asyncio.Future]] = []

    def namespace(self, node: str) -> str:
        path = self.paths.netns(node)
        self.journal.note("netns", path.name)
        netns.create(path)
        return node

    def adopt(self, node: str, pid: int) -> None:
        path = self.paths.netns(node)
        self.journal.note("netns", path.name)
        netns.adopt(path, pid)

    def on_exit(self, ended: Exit) -> None:
        self.exits.append(ended)
        for node, future in self._waiting:
            if node == ended.node and not future.done():
                future.set_result(ended)

    async def ended(self, node: str) -> Exit:
        """Wait for the end of the node's program; call it before or after."""
        for ended in self.exits:
            if ended.node == node:
                return ended
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((node, future))
        async with asyncio.timeout(30):
            return await future

    def out(self, node: str) -> str:
        return (self.paths.node(node) / "out.jsonl").read_text()

    def err(self, node: str) -> str:
        return (self.paths.node(node) / "err.log").read_text()

    def clean(self) -> None:
        teardown.kill_processes(self.paths)
        if Engine.connect() is not None:
            teardown.remove_containers(self.paths)
        for path in netns_files(self.paths):
            netns.delete(path)
        self.journal.close()
        shutil.rmtree(self.paths.root)


def netns_files(paths: LabPaths) -> list[Path]:
    folder = paths.netns("x").parent
    return list(folder.glob(f"{paths.lab}.*")) if folder.is_dir() else []


@asynccontextmanager
async def zygote(scratch: Scratch) -> AsyncIterator[Zygote]:
    into = group.create(scratch.paths, scratch.journal)
    server = await Zygote.start(scratch.paths, into, scratch.on_exit)
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def containers(scratch: Scratch) -> AsyncIterator[Containers]:
    engine = Engine.demand()
    made = Containers(scratch.paths, engine, scratch.journal, scratch.on_exit)
    try:
        yield made
    finally:
        await made.close()
        engine.close()


def process(*command: str, **env: str) -> Program:
    return Program(runtime=Runtime.PROCESS, command=command, env=tuple(env.items()))


def container(image: str, *command: str, **more) -> Program:
    return Program(runtime=Runtime.DOCKER, image=image, command=command, **more)


def make_image(name: str, files: dict[str, Path | bytes], changes: list[str]) -> str:
    """An image of exactly these files; returns its name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    repository, _, tag = name.partition(":")
    with Engine.demand() as engine:
        engine.client.import_image_from_data(
            buffer.getvalue(), repository=repository, tag=tag, changes=changes
        )
    return name


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for what has no event to wait for (the state of someone else's process)."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def netns_of(pid: int) -> int:
    return os.stat(f"/proc/{pid}/ns/net").st_ino  # noqa: PTH116 - a namespace's number
