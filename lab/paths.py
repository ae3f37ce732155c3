"""Where things are: the state folder of a lab, and the data that ships with it.

State lives on a file system that a reboot clears (`/run/lab`), because the
namespaces that it describes are cleared by a reboot too.  `LAB_STATE_DIR`
moves it: perhaps to a folder where other things are, too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

NETNS_DIR = Path("/run/netns")

_JOURNAL = "journal.jsonl"
_PACKAGE = Path(__file__).resolve().parent


def state_root() -> Path:
    """The folder that holds one folder per lab."""
    return Path(os.environ.get("LAB_STATE_DIR", "/run/lab"))


def labs_in(root: Path) -> list[str]:
    """The names of the labs whose state is in `root`, in order; none where there is no folder.

    Whatever else is there is not seen.  Raises PermissionError where the caller may not look.
    """
    try:
        return sorted(one.name for one in root.iterdir() if one.is_dir() and is_labs(one))
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_labs(folder: Path) -> bool:
    """Whether a folder is a lab's: there is a journal in it, or nothing (yet, or any more).

    One that the caller may not look into is taken for one: labs are root's.
    """
    try:
        names = {entry.name for entry in folder.iterdir()}
    except PermissionError:
        return True
    except FileNotFoundError:
        return False
    return not names or _JOURNAL in names


def data_dir(kind: str) -> Path:
    """The shipped folder `kind` (`topologies`, `images`, `metrics`, `studies`).

    In a checkout it stands beside the package; in an installed wheel, inside it.
    """
    installed = _PACKAGE / "_data" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


@dataclass(frozen=True, slots=True)
class LabPaths:
    """The files of one lab's state folder."""

    root: Path

    @classmethod
    def of(cls, lab: str) -> LabPaths:
        """The paths of the lab of that name, whether it exists or not."""
        return cls(state_root() / lab)

    @property
    def lab(self) -> str:
        return self.root.name

    @property
    def journal(self) -> Path:
        """Written before each create: JSON lines, the authority on what is ours."""
        return self.root / _JOURNAL

    @property
    def plan(self) -> Path:
        """The plan that is running, as JSON; replaced atomically after an apply."""
        return self.root / "plan.json"

    @property
    def agent_socket(self) -> Path:
        return self.root / "agent.sock"

    @property
    def agent_lock(self) -> Path:
        """Held (flock) by the agent while it lives."""
        return self.root / "agent.lock"

    @property
    def agent_log(self) -> Path:
        return self.root / "agent.log"

    @property
    def attempts(self) -> Path:
        """Every connection attempt's record, JSON lines."""
        return self.root / "attempts.jsonl"

    @property
    def sessions(self) -> Path:
        """Every session's record, JSON lines."""
        return self.root / "sessions.jsonl"

    @property
    def events(self) -> Path:
        """The lab's timeline of events, JSON lines."""
        return self.root / "events.jsonl"

    @property
    def scrape_target(self) -> Path:
        """Prometheus file service discovery: where this lab's exporter listens.

        Beside the state folder, not in it: Prometheus takes a `*` in the last
        part of a path only.
        """
        return self.root.parent / f"{self.lab}.target.json"

    @property
    def scrape_draft(self) -> Path:
        """The scrape target while it is being written: not what Prometheus's pattern matches."""
        return self.root.parent / f"{self.lab}.target.draft"

    def node(self, node: str) -> Path:
        """The folder of one node: `control.sock`, `out.jsonl`, `err.log`.

        A container sees it as `/lab`.
        """
        return self.root / "nodes" / node

    def netns(self, node: str) -> Path:
        """The node's network namespace, in the place where `ip netns` looks."""
        return NETNS_DIR / f"{self.lab}.{node}"
