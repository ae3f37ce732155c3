"""The images of the built-in programs, and how they come to be.

`base` is Python and nothing else: an official slim image where a registry
answers, otherwise a Debian root that mmdebstrap makes from the distribution's
mirror.  `peer` is base, `lab.peer` and what it imports.  Dependencies come as
wheels, fetched and unpacked on the host in the versions that lab itself runs
with, so no build needs a network of its own, and a peer is the same program in
a container and in a process.

The tag of the peer image is a digest of everything in it: an image that does
not match this version of lab has another name and is not found.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import lab
from lab.errors import LabError, MissingError
from lab.paths import data_dir
from lab.runtime.docker import Engine

Say = Callable[[str], None]
"""Narrates one line."""

LABEL_IMAGE = "peerlab.image"
LABEL_PYTHON = "peerlab.python"

_REQUIREMENTS = ("aioice", "cryptography")
_PINNED = ("aioice", "cffi", "cryptography", "dnspython", "ifaddr", "pycparser")
# What glibc of Debian 12 and later, and so of both bases, can load.
_MANYLINUX = ("manylinux2014", "manylinux_2_28", "manylinux_2_34")
_SLIM = ("doc", "man", "locale", "info", "lintian")


class Source(StrEnum):
    """Where the base comes from."""

    AUTO = "auto"
    REGISTRY = "registry"
    DEBIAN = "debian"


def peer_image() -> str:
    """The name of the peer image that belongs to this version of lab; a matter of milliseconds."""
    digest = hashlib.sha256()
    for name, data in _own_files():
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    digest.update(_template("peer").encode())
    digest.update("\n".join(_pins()).encode())
    return f"peerlab/peer:{digest.hexdigest()[:16]}"


def base_image() -> str:
    """The name of the base image."""
    packages = ",".join(_debian_packages())
    digest = hashlib.sha256(f"{_template('base')}\0{packages}".encode())
    return f"peerlab/base:{digest.hexdigest()[:16]}"


def can_build() -> bool:
    """Whether a base can be made without a registry (whether one answers is known by asking it)."""
    return shutil.which("mmdebstrap") is not None


def ensure(engine: Engine, say: Say, source: Source = Source.AUTO) -> str:
    """The peer image's name; it is built if the engine has none that fits."""
    name = peer_image()
    return name if engine.has_image(name) else build_peer(engine, say, source)


def build_peer(engine: Engine, say: Say, source: Source = Source.AUTO) -> str:
    """Build the peer image, and the base if there is none; its name.

    Raises MissingError if this machine can't, LabError if the build fails.
    """
    base = base_image()
    if not engine.has_image(base):
        build_base(engine, say, source)
    name = peer_image()
    python = _python_of(engine, base)
    say(f"building {name} for Python {python}")
    with tempfile.TemporaryDirectory(prefix="lab-image-") as folder:
        site = Path(folder) / "site"
        _fetch_wheels(python, site)
        for path, data in _own_files():
            target = site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        _build(engine, name, _render("peer", base=base), site)
    _remove_older(engine, "peer", name)
    return name


def build_base(engine: Engine, say: Say, source: Source = Source.AUTO) -> str:
    """Build the base image, anew if it exists; its name.  Raises as `build_peer`."""
    name = base_image()
    if source is Source.AUTO:
        try:
            upstream, python = _from_registry(engine, say)
        except LabError as error:
            say(f"no base from a registry: {error.message}")
            upstream, python = _from_debian(engine, say)
    elif source is Source.REGISTRY:
        upstream, python = _from_registry(engine, say)
    else:
        upstream, python = _from_debian(engine, say)
    _build(engine, name, _render("base", upstream=upstream, python=python), None)
    _remove_older(engine, "base", name)
    return name


# --- bases ------------------------------------------------------------------


def _from_registry(engine: Engine, say: Say) -> tuple[str, str]:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    upstream = f"python:{python}-slim"
    if not engine.has_image(upstream):
        say(f"fetching {upstream}")
        engine.pull(upstream)
    return upstream, python


def _from_debian(engine: Engine, say: Say) -> tuple[str, str]:
    """A root of the host's own release, so that the host's mirror and keys serve."""
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
        command += [f"--include={','.join(_debian_packages())}"]
        command += ['--aptopt=Acquire::Languages "none"']
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _SLIM]
        done = subprocess.run(
            [*command, suite, str(archive)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LabError(
                f"mmdebstrap could not make a base: {_last(done.stderr)}",
                remedy="it needs the distribution's package mirror (apt-get update works?)",
            )
        with tarfile.open(archive) as tar:
            python = tar.getmember("./usr/bin/python3").linkname.removeprefix("python")
        name = f"peerlab/debian:{suite}"
        engine.import_archive(archive, name)
    return name, python


def _debian_packages() -> tuple[str, ...]:
    text = (data_dir("images") / "base" / "packages.txt").read_text()
    return tuple(line for line in text.split("\n") if line and not line.startswith("#"))


def _python_of(engine: Engine, image: str) -> str:
    labels: dict[str, str] = engine.client.inspect_image(image)["Config"].get("Labels") or {}
    return labels[LABEL_PYTHON]


# --- what goes in -----------------------------------------------------------


def _own_files() -> Iterator[tuple[str, bytes]]:
    """`lab.peer`, which stands alone, as (path, content), in a fixed order."""
    package = Path(lab.__file__).parent
    yield "lab/__init__.py", (package / "__init__.py").read_bytes()
    for path in sorted((package / "peer").rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            yield str(Path("lab") / path.relative_to(package)), path.read_bytes()


def _pins() -> Iterator[str]:
    """The versions that lab runs with here."""
    for name in _PINNED:
        try:
            yield f"{name}=={importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue


def _fetch_wheels(python: str, site: Path) -> None:
    """Unpack into `site` the wheels that a peer needs, for `python` on this kind of machine."""
    machine = platform.machine()
    with tempfile.TemporaryDirectory(prefix="lab-wheels-") as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(_pins()) + "\n")
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
                f"pip could not fetch the wheels of a peer: {_last(done.stderr)}",
                remedy="it needs a package index once, as the installation of lab did",
            )
        for wheel in sorted(Path(folder).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)  # noqa: S202 - a wheel that pip chose, and pip would unpack


# --- building ---------------------------------------------------------------


def _template(image: str) -> str:
    return (data_dir("images") / image / "Dockerfile.j2").read_text()


def _render(image: str, **values: str) -> str:
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - only to build

    # A Dockerfile is no markup: there is nothing to escape.
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701
    return environment.from_string(_template(image)).render(values)


def _build(engine: Engine, name: str, dockerfile: str, site: Path | None) -> None:
    with tempfile.TemporaryFile(prefix="lab-context-") as context:
        with tarfile.open(fileobj=context, mode="w") as tar:
            _add(tar, "Dockerfile", dockerfile.encode())
            if site is not None:
                tar.add(site, "site", filter=_plain)
        context.seek(0)
        answer = engine.client.build(
            fileobj=context,
            custom_context=True,
            tag=name,
            rm=True,
            forcerm=True,
            network_mode="none",
            decode=True,
        )
        _follow(answer, f"the build of {name}")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Readable by any user of an image, and the same whoever builds it."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry


def _follow(answer: Iterable[dict[str, Any]], what: str) -> None:
    """Read the engine's progress to its end; LabError if it tells of a failure."""
    said: list[str] = []
    for line in answer:
        if "error" in line:
            raise LabError(
                f"{what} failed: {line['error']}",
                remedy="\n  ".join(said[-10:]) or "see the engine's log",
            )
        text = str(line.get("stream", "")).strip()
        if text:
            said.append(text)


def _remove_older(engine: Engine, kind: str, kept: str) -> None:
    """Remove former images of this kind, unless a container still uses them."""
    from docker.errors import APIError  # noqa: PLC0415 - only to build

    found = engine.client.images(filters={"label": f"{LABEL_IMAGE}={kind}"})
    for tag in {tag for image in found for tag in image.get("RepoTags") or ()}:
        if tag.startswith(f"peerlab/{kind}:") and tag != kept:
            try:
                engine.client.remove_image(tag)
            except APIError:
                continue


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
