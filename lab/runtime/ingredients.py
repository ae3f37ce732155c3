"""What goes into the image of a peer: `lab.peer`, and the wheels that it needs."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import lab
from lab.errors import MissingError

_REQUIREMENTS = ("aioice", "cryptography")
_PINNED = ("aioice", "cffi", "cryptography", "dnspython", "ifaddr", "pycparser")
# What glibc of Debian 12 and later, and so of both bases, can load.
_MANYLINUX = ("manylinux2014", "manylinux_2_28", "manylinux_2_34")


def own_files() -> Iterator[tuple[str, bytes]]:
    """`lab.peer`, which stands alone, as (path, content), in a fixed order."""
    package = Path(lab.__file__).parent
    yield "lab/__init__.py", (package / "__init__.py").read_bytes()
    for path in sorted((package / "peer").rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            yield str(Path("lab") / path.relative_to(package)), path.read_bytes()


def pins() -> Iterator[str]:
    """The versions that lab runs with here."""
    for name in _PINNED:
        try:
            yield f"{name}=={importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue


def fetch_wheels(python: str, site: Path) -> None:
    """Unpack into `site` the wheels that a peer needs, for `python` on this kind of machine."""
    machine = platform.machine()
    with tempfile.TemporaryDirectory(prefix="lab-wheels-") as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(pins()) + "\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", folder]
        command += ["--python-version", python, "--implementation", "cp"]
        command += ["--constraint", str(constraints)]
        for platform_tag in _MANYLINUX:
            command += ["--platform", f"{platform_tag}_{machine}"]
        done = subprocess.run(
            [*command, *_REQUIREMENTS], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise MissingError(
                f"pip could not fetch the wheels of a peer: {last_line(done.stderr)}",
                remedy="it needs a package index once, as the installation of lab did",
            )
        for wheel in sorted(Path(folder).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)


def last_line(text: str) -> str:
    """What a program said last, which is usually why it ended."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
