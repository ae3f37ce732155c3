"""Having the engine build an image of a Dockerfile and a folder."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.paths import data_dir
from lab.runtime.docker import Engine


def template(image: str) -> str:
    """The Dockerfile of `image`, before its values are filled in."""
    return (data_dir("images") / image / "Dockerfile.j2").read_text()


def render(image: str, **values: str) -> str:
    """The Dockerfile of `image` with `values`."""
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - only to build

    # A Dockerfile is no markup: there is nothing to escape.
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701
    return environment.from_string(template(image)).render(values)


def build_image(engine: Engine, name: str, dockerfile: str, site: Path | None) -> None:
    """Have the image `name` built of `dockerfile`, which finds the folder `site` beside it.

    Raises LabError if the build fails.
    """
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
