"""A Debian kernel in a virtual machine (virtme-ng, QEMU), on this machine's own files.

The kernel is Debian's package, unpacked into a cache folder and never
installed: `~/.cache/lab-vm`, or LAB_VM_CACHE.  It is the newest that apt has
(a stable release gets those of later ones, too), or the package that
LAB_VM_KERNEL names.  The machine's root file system is seen read-only, with
what the guest writes kept in its memory.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

_META_PACKAGE = re.compile(r"linux-image-(?:\d+\.\d+-)?amd64")
ROOT = Path(__file__).resolve().parents[2]
Version = tuple[int, ...]


class CannotBootError(Exception):
    """This machine lacks what a virtual machine needs; the text says what."""


def boot(
    script: str, *, timeout_s: float = 280, before: Version = ()
) -> subprocess.CompletedProcess[str]:
    """Run a shell command as root in a fresh guest; its output.

    With `before`, its kernel is an earlier one than that.  Raises
    CannotBootError if something is missing.
    """
    vng = shutil.which("vng") or shutil.which("vng", path=str(Path(sys.executable).parent))
    if vng is None:
        raise CannotBootError("virtme-ng is missing: pip install virtme-ng")
    if shutil.which("qemu-system-x86_64") is None:
        raise CannotBootError("QEMU is missing: apt-get install qemu-system-x86")
    image = kernel_image(before)
    # The guest would take seconds for each program that begins, and could not keep the result.
    compile_ = (sys.executable, "-m", "compileall", "-q", "lab", "tests")
    subprocess.run(compile_, check=False, capture_output=True, cwd=ROOT)
    # Emulated even where /dev/kvm exists: a nested one may exist and not work,
    # and ten seconds more buy the same behaviour everywhere.
    machine = ("--disable-kvm", "--force-9p", "--cpus", "2", "--memory", "1G", "--cwd", str(ROOT))
    # vng wants its own interpreter's tools beside it.
    path = f"{Path(vng).parent}:{os.environ.get('PATH', '')}"
    # The guest ends by itself, too: whoever waits for it may be gone by then.
    bounded = shlex.join(("timeout", "-k", "5", f"{timeout_s:.0f}", "sh", "-c", script))
    command = (vng, "--run", str(image), *machine, "--", bounded)
    # A session of its own: what is to be ended at the deadline is QEMU, below vng and a shell.
    guest = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "PATH": path},
        start_new_session=True,
    )
    with guest:
        try:
            output, complaints = guest.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(guest.pid, signal.SIGKILL)
            output, complaints = guest.communicate()
            said = f"{output[-3000:]}\n{complaints[-3000:]}"
            raise TimeoutError(f"not done within {timeout_s:.0f} s: {said}") from None
        except BaseException:
            os.killpg(guest.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, guest.returncode, output, complaints)


def kernel_image(before: Version = ()) -> Path:
    """Debian's kernel, unpacked, with its modules; made once.

    Where the newest can't be had, the next: a package list may be out of date.
    With `before`, the newest that is earlier than that.
    """
    given = os.environ.get("LAB_VM_CACHE")
    cache = Path(given) if given else Path.home() / ".cache" / "lab-vm"
    packages = [each for each in _packages() if not before or _version(each) < before]
    wanted = f" before {'.'.join(map(str, before))}" if before else ""
    refused = CannotBootError(f"no package of a kernel{wanted}: apt-get update, on Debian")
    for package in packages:
        try:
            return _unpacked(package, cache)
        except CannotBootError as error:
            refused = error
    raise refused


def _unpacked(package: str, cache: Path) -> Path:
    """The kernel of `package`, fetched if it is not in `cache`."""
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


def _packages() -> list[str]:
    """Packages with a kernel, the newest first; the one that was asked for alone, if one was."""
    named = os.environ.get("LAB_VM_KERNEL")
    names = [named] if named else _tool("apt-cache", "pkgnames", "linux-image-").split()
    found = {_behind(name) for name in names if named or _META_PACKAGE.fullmatch(name)}
    return sorted(found, key=_version, reverse=True)


def _behind(package: str) -> str:
    """The package that a meta package stands for today; any other stands for itself."""
    for line in _tool("apt-cache", "depends", package).splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends" and name.startswith("linux-image-"):
            return name
    return package


def _version(package: str) -> Version:
    return tuple(int(number) for number in re.findall(r"\d+", package))


def _tool(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)
    except FileNotFoundError as error:
        raise CannotBootError(f"{command[0]} is missing (Debian's apt, dpkg, kmod)") from error
    if done.returncode:
        raise CannotBootError(f"{shlex.join(command)}: {done.stderr.strip()[-300:]}")
    return done.stdout
