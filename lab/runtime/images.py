"""The images of the built-in programs, and how they come to be.

`base` is Python and nothing else (`lab.runtime.bases`).  `peer` is base,
`lab.peer` and what it imports.  Dependencies come as wheels, fetched and
unpacked on the host in the versions that lab itself runs with, so no build
needs a network of its own, and a peer is the same program in a container and
in a process.

The tag of the peer image is a digest of everything in it: an image that does
not match this version of lab has another name and is not found.
"""

from __future__ import annotations

import hashlib
import tempfile
from enum import StrEnum
from pathlib import Path

from lab.errors import LabError
from lab.runtime.bases import Say, debian_packages, from_debian, from_registry
from lab.runtime.docker import Engine
from lab.runtime.dockerfile import build_image, render, template
from lab.runtime.ingredients import fetch_wheels, own_files, pins

LABEL_IMAGE = "peerlab.image"
LABEL_PYTHON = "peerlab.python"


class Source(StrEnum):
    """Where the base comes from."""

    AUTO = "auto"
    REGISTRY = "registry"
    DEBIAN = "debian"


def peer_image() -> str:
    """The name of the peer image that belongs to this version of lab; a matter of milliseconds."""
    digest = hashlib.sha256()
    for name, data in own_files():
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    digest.update(template("peer").encode())
    digest.update("\n".join(pins()).encode())
    return f"peerlab/peer:{digest.hexdigest()[:16]}"


def base_image() -> str:
    """The name of the base image."""
    packages = ",".join(debian_packages())
    digest = hashlib.sha256(f"{template('base')}\0{packages}".encode())
    return f"peerlab/base:{digest.hexdigest()[:16]}"


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
        fetch_wheels(python, site)
        for path, data in own_files():
            target = site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        build_image(engine, name, render("peer", base=base), site)
    _remove_older(engine, "peer", name)
    return name


def build_base(engine: Engine, say: Say, source: Source = Source.AUTO) -> str:
    """Build the base image, anew if it exists; its name.  Raises as `build_peer`."""
    name = base_image()
    if source is Source.AUTO:
        try:
            upstream, python = from_registry(engine, say)
        except LabError as error:
            say(f"no base from a registry: {error.message}")
            upstream, python = from_debian(engine, say)
    elif source is Source.REGISTRY:
        upstream, python = from_registry(engine, say)
    else:
        upstream, python = from_debian(engine, say)
    build_image(engine, name, render("base", upstream=upstream, python=python), None)
    _remove_older(engine, "base", name)
    return name


def _python_of(engine: Engine, image: str) -> str:
    labels: dict[str, str] = engine.client.inspect_image(image)["Config"].get("Labels") or {}
    return labels[LABEL_PYTHON]


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
