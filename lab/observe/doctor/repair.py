"""Installing what is missing, on Debian and its relatives."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable

from lab.errors import LabError, MissingError
from lab.observe.doctor.check import Check, Level


def wanted(checks: Iterable[Check]) -> tuple[str, ...]:
    """The packages that would help, each once, in order."""
    return tuple(
        dict.fromkeys(
            package for check in checks if check.level is not Level.OK for package in check.packages
        )
    )


def repair(checks: Iterable[Check], say: Callable[[str], None]) -> tuple[str, ...]:
    """Install what `checks` found missing and a package can bring; returns the packages.

    Raises MissingError without apt-get or root, LabError if apt-get fails.
    """
    packages = wanted(checks)
    if not packages:
        return ()
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise MissingError(
            "this machine has no apt-get, so --fix does not know how to install",
            remedy=f"install what these Debian packages contain: {names}",
        )
    if os.geteuid() != 0:
        raise MissingError("installing packages needs root", remedy=f"sudo apt-get install {names}")
    say(f"installing {names}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ("apt-get", "install", "--yes", "--no-install-recommends", *packages)
    if _run(install, environment).returncode != 0:
        # The list of packages may be old, or have never been fetched.
        say("fetching the list of packages")
        _run(("apt-get", "update"), environment)
        done = _run(install, environment)
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
            raise LabError(
                "apt-get failed: " + " / ".join(last), remedy=f"try it: apt-get install {names}"
            )
    return packages


def _run(command: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
