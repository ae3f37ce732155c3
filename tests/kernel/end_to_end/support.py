"""Running the `lab` command as a person does, in a state folder of the test's own."""

from __future__ import annotations

import json
import os
import random
import string
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.paths import NETNS_DIR, LabPaths
from lab.runtime import group


@dataclass
class Command:
    """`lab`, with the state folder of one test."""

    state: Path
    timeout: float = 240
    """Seconds for each order: less than a test has, so that what takes too long is named."""
    labs: list[str] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("LAB_")}
        return kept | {"LAB_STATE_DIR": str(self.state)}

    def name(self) -> str:
        """A lab name that no other test uses."""
        name = "t-e2e-" + "".join(random.choices(string.ascii_lowercase, k=6))
        self.labs.append(name)
        return name

    def paths(self, lab: str) -> LabPaths:
        return LabPaths(self.state / lab)

    def popen(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "lab", *arguments],
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, whatever its exit code."""
        return subprocess.run(
            [sys.executable, "-m", "lab", *arguments],
            env=self.env,
            text=True,
            capture_output=True,
            timeout=self.timeout,
            check=False,
        )

    def ok(self, *arguments: str) -> str:
        """Run the command, which must succeed; its standard output."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"lab {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--json"))


def traces(lab: str, state: Path) -> list[str]:
    """Everything of `lab` that exists on this machine, in words; empty if nothing does."""
    found = [f"namespace {entry.name}" for entry in NETNS_DIR.glob(f"{lab}.*")]
    found += [f"file {entry}" for entry in state.glob(f"{lab}.*")]
    if (state / lab).exists():
        inside = (f"{path}/{file}" for path, _, files in os.walk(state / lab) for file in files)
        found.append(f"state folder {state / lab}: {sorted(inside)}")
    mounts = Path("/proc/mounts").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if lab in line]
    marker = f"LAB_STATE={state / lab}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if process.name == str(os.getpid()):
            continue
        if marker in environment.split(b"\0") or lab.encode() in command:
            found.append(f"process {process.name}: {command!r}")
    # Other labs' groups go while one looks, which `rglob` does not bear.
    folders = (walk for top in group.mount_points() for walk in os.walk(top))
    for path, names, _ in folders:
        mine = (name for name in names if name.startswith(f"{group.PREFIX}{lab}."))
        found += [f"control group {path}/{name}" for name in mine]
    devices = [entry.name for entry in Path("/sys/class/net").iterdir()]
    found += [f"device {name}" for name in devices if lab in name]
    return found


def left_by(command: Command) -> list[str]:
    """`traces` of all its labs."""
    return [trace for name in command.labs for trace in traces(name, command.state)]
