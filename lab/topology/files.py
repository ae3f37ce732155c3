"""Finding and reading topology files, within bounds."""

from __future__ import annotations

import os
from pathlib import Path

from lab.errors import InputError
from lab.paths import data_dir
from lab.topology.problems import one_of, show

MAX_BYTES = 2**20
_SUFFIXES = (".yaml", ".yml")


def shipped() -> list[str]:
    """The names of the topologies that ship with lab."""
    folder = data_dir("topologies")
    return sorted(file.stem for file in folder.glob("*.yaml")) if folder.is_dir() else []


def find(path: str | os.PathLike[str]) -> Path:
    """The file that `path` means, existing or not; InputError for an unknown bare word."""
    text = os.fspath(path)
    if "\0" in text or not text:
        raise InputError(f"{show(text)} can't name a file", remedy="name a topology file")
    file = data_dir("topologies") / f"{text}.yaml"
    if os.sep in text or Path(text).suffix:
        # `bring-your-own/webrtc` ships as well; what is here comes first.
        path = Path(text)
        lesson = not path.suffix and not path.is_absolute() and not os.path.lexists(path)
        return file if lesson and file.is_file() else path
    if len(text) < 200 and file.is_file():
        return file
    remedy = one_of(text, shipped(), "shipped topologies")
    if len(text) < 200 and Path(text).is_file():
        remedy = f"for the file write ./{text}. {remedy}"
    raise InputError(f"no shipped topology is called {show(text)}", remedy=remedy)


def read_text(file: Path) -> str:
    """The text of `file`; InputError if it can't be read, is too large or is no text."""
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            # Devices and pipes have no size: never read more than may be parsed.
            data = stream.read(MAX_BYTES + 1) if size <= MAX_BYTES else b""
    except FileNotFoundError:
        raise InputError(
            "there is no such file", remedy=_other_files(file), where=str(file)
        ) from None
    except IsADirectoryError:
        raise InputError(
            "this is a folder",
            remedy=f"name a file in it. {_other_files(file / '_')}".strip(),
            where=str(file),
        ) from None
    except OSError as error:
        raise InputError(
            f"the file can't be read: {error.strerror}",
            remedy="check its permissions and that each part of its path is a folder",
            where=str(file),
        ) from None
    if size > MAX_BYTES or len(data) > MAX_BYTES:
        amount = f"{size / 2**20:.1f} MiB" if size > MAX_BYTES else "more than 1 MiB"
        raise InputError(
            f"the file has {amount}, and a topology has at most 1 MiB",
            remedy="write many alike in one line with count:, and repeat nothing: &anchor, *anchor",
            where=str(file),
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"this is not UTF-8 text (byte {error.start} is 0x{data[error.start]:02x})",
            remedy="name a topology file, saved as UTF-8",
            where=f"{file}:{line}",
        ) from None


def _other_files(file: Path) -> str:
    """What else stands in the folder of `file`, as a remedy."""
    try:
        beside = sorted(one.name for one in file.parent.iterdir() if one.suffix in _SUFFIXES)
    except OSError:
        return f"the folder {show(str(file.parent))} can't be listed"
    if beside:
        return one_of(file.name, beside, "topology files there")
    return f"or the name of a shipped topology: {', '.join(shipped())}"
