"""A Debian kernel in a virtual machine (virtme-ng, QEMU), on this machine's own files.

The kernel is Debian's package, unpacked into a cache folder and never
installed: `~/.cache/lab-vm`, or LAB_VM_CACHE.  The machine's root file system
is seen read-only, with what the guest writes kept in its memory.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

META_PACKAGE = os.environ.get("LAB_VM_KERNEL", "linux-image-amd64")
ROOT = Path(__file__).resolve().parents[2]


class CannotBootError(Exception):
    """This machine lacks what a virtual machine needs; the text says what."""


def boot(command: str, *, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
    """Run a shell command as root in a fresh guest; its output.

    Raises CannotBootError if something is missing.
    """
    vng = shutil.which("vng") or shutil.which("vng", path=str(Path(sys.executable).parent))
    if vng is None:
        raise CannotBootError("virtme-ng is missing: pip install virtme-ng")
    if shutil.which("qemu-system-x86_64") is None:
        raise CannotBootError("QEMU is missing: apt-get install qemu-system-x86")
    image = kernel_image()
    # Emulated even where /dev/kvm exists: a nested one may exist and not work,
    # and ten seconds more buy the same behaviour everywhere.
    machine = ("--disable-kvm", "--force-9p", "--cpus", "2", "--memory", "1G", "--cwd", str(ROOT))
    # vng wants its own interpreter's tools beside it.
    path = f"{Path(vng).parent}:{os.environ.get('PATH', '')}"
    return subprocess.run(
        (vng, "--run", str(image), *machine, "--", command),
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=timeout_s,
        env={**os.environ, "PATH": path},
    )


def kernel_image() -> Path:
    """Debian's kernel, unpacked, with its modules; made once."""
    given = os.environ.get("LAB_VM_CACHE")
    cache = Path(given) if given else Path.home() / ".cache" / "lab-vm"
    package = _package()
    home = cache / package
    release = package.removeprefix("linux-image-").removesuffix("-unsigned")
    image = home / "boot" / f"vmlinuz-{release}"
    if not image.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            scratch = Path(folder)
            _tool("apt-get", "download", package, cwd=scratch)
            (archive,) = scratch.glob("*.deb")
            unpacked = scratch / "root"
            _tool("dpkg-deb", "--extract", str(archive), str(unpacked))
            _tool("depmod", "--basedir", str(unpacked), release)
            unpacked.rename(home)
    return image


def _package() -> str:
    """The package that the meta package stands for today."""
    for line in _tool("apt-cache", "depends", META_PACKAGE).splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends" and name.startswith("linux-image-"):
            return name
        if kind == "PreDepends" and name == "linux-base":
            # No meta package, but a kernel.
            return META_PACKAGE
    raise CannotBootError(f"no package {META_PACKAGE}: apt-get update, on Debian")


def _tool(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)
    except FileNotFoundError as error:
        raise CannotBootError(f"{command[0]} is missing (Debian's apt, dpkg, kmod)") from error
    if done.returncode:
        raise CannotBootError(f"{shlex.join(command)}: {done.stderr.strip()[-300:]}")
    return done.stdout
