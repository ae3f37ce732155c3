"""What an image is built upon: Python and nothing else.

An official slim image where a registry answers, otherwise a Debian root that
mmdebstrap makes from the distribution's mirror.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from lab.errors import LabError, MissingError
from lab.paths import data_dir
from lab.runtime.docker import Engine
from lab.runtime.ingredients import last_line

Say = Callable[[str], None]
"""Narrates one line."""

_SLIM = ("doc", "man", "locale", "info", "lintian")


def can_build() -> bool:
    """Whether a base can be made without a registry (whether one answers is known by asking it)."""
    return shutil.which("mmdebstrap") is not None


def from_registry(engine: Engine, say: Say) -> tuple[str, str]:
    """An official image of the Python that runs lab, and its version; LabError without one."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    upstream = f"python:{python}-slim"
    if not engine.has_image(upstream):
        say(f"fetching {upstream}")
        engine.pull(upstream)
    return upstream, python


def from_debian(engine: Engine, say: Say) -> tuple[str, str]:
    """An image of the host's own release, whose mirror and keys serve; and its Python's version.

    Raises MissingError without mmdebstrap, LabError if it fails.
    """
    if not can_build():
        raise MissingError(
            "no registry answers, and there is no mmdebstrap to make a base without one",
            remedy="apt-get install mmdebstrap (or use --runtime process)",
        )
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")
    say(f"making a base from Debian packages ({suite}); this takes half a minute, once")
    with tempfile.TemporaryDirectory(prefix="lab-base-") as folder:
        archive = Path(folder) / "root.tar"
        command = ["mmdebstrap", "--quiet", "--variant=essential"]
        command += [f"--include={','.join(debian_packages())}"]
        command += ['--aptopt=Acquire::Languages "none"']
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _SLIM]
        done = subprocess.run(
            [*command, suite, str(archive)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LabError(
                f"mmdebstrap could not make a base: {last_line(done.stderr)}",
                remedy="it needs the distribution's package mirror (apt-get update works?)",
            )
        with tarfile.open(archive) as tar:
            python = tar.getmember("./usr/bin/python3").linkname.removeprefix("python")
        name = f"peerlab/debian:{suite}"
        engine.import_archive(archive, name)
    return name, python


def debian_packages() -> tuple[str, ...]:
    """What a base of Debian packages has besides the essential ones."""
    text = (data_dir("images") / "base" / "packages.txt").read_text()
    return tuple(line for line in text.split("\n") if line and not line.startswith("#"))
