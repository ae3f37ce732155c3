"""Files that a link's behaviour is read from: delay distributions and delivery traces.

Both are read twice: when a topology is checked, and by whoever carries the
link.  `load` sees to it that both see the same.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from pathlib import Path

from lab.errors import LabError
from lab.topology.character import DataFile
from lab.topology.problems import WrongValueError, one_of, show

MAX_BYTES = 16 * 2**20
MAX_TABLE = 16384
"""Entries of a distribution that netem takes (NETEM_DIST_MAX)."""

TABLE_SCALE = 8192
"""What one jitter is in a distribution (NETEM_DIST_SCALE)."""

OPPORTUNITY_BYTES = 1504
"""What mahimahi lets pass at each moment of a trace: a full packet and its TUN header."""

_COMMENT = re.compile(rb"#[^\n]*")
_INT16 = 2**15


def find(word: str, folder: Path) -> tuple[DataFile, bytes]:
    """The file that `word` names, seen from `folder`, and what is in it; WrongValueError."""
    path = Path(word) if word.startswith("/") else folder / word
    try:
        path = path.resolve()
        if not path.is_file():
            raise _no_file(word, path)
        if path.stat().st_size > MAX_BYTES:
            raise WrongValueError(f"the file {show(word)} has more than 16 MiB", "shorten it")
        data = path.read_bytes()
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, WrongValueError):
            raise
        what = error.strerror if isinstance(error, OSError) else error
        raise WrongValueError(
            f"the file {show(word)} can't be read: {what}", "check its name and permissions"
        ) from None
    return DataFile(path=str(path), digest=_digest(data)), data


def load(file: DataFile) -> bytes:
    """What is in `file`; LabError if it is gone or is not what it was."""
    try:
        data = Path(file.path).read_bytes()
    except OSError as error:
        raise LabError(
            f"{file.path} can't be read: {error.strerror}",
            remedy="put it back: links are read from it",
        ) from error
    if _digest(data) != file.digest:
        raise LabError(
            f"{file.path} has changed since the topology was read",
            remedy="`lab apply` the topology, which reads it anew",
        )
    return data


def parse_table(data: bytes) -> array[int]:
    """A distribution in the format of tc's `.dist` files: multiples of 1/8192 of the jitter.

    Ascending, so that a share of the table is a quantile.  Raises WrongValueError.
    """
    values = array("h")
    for number, line in enumerate(_COMMENT.sub(b"", data).split(b"\n"), 1):
        for word in line.split():
            try:
                value = int(word)
            except ValueError:
                raise _not_a(f"line {number} is no list of whole numbers", "table") from None
            if not -_INT16 <= value < _INT16:
                raise _not_a(f"line {number} has {value}, beyond 16 bits", "table")
            values.append(value)
            if len(values) > MAX_TABLE:
                raise _not_a(f"it has more than {MAX_TABLE} values", "table")
    if len(values) < 2:
        raise _not_a("it has fewer than two values", "table")
    return array("h", sorted(values))


def parse_trace(data: bytes) -> array[int]:
    """A packet-delivery trace in mahimahi's format: milliseconds, one to a line, ascending.

    Raises WrongValueError.
    """
    moments = array("q")
    last = 0
    for number, line in enumerate(data.split(b"\n"), 1):
        word = line.strip()
        if not word:
            continue
        if not word.isdigit() or len(word) > 12:
            raise _not_a(f"line {number} is no whole number of milliseconds", "trace")
        moment = int(word)
        if moment < last:
            raise _not_a(f"line {number} goes back in time, from {last} to {moment}", "trace")
        moments.append(moment)
        last = moment
    if not moments:
        raise _not_a("it is empty", "trace")
    if not last:
        raise _not_a("it ends where it begins", "trace")
    return moments


_REMEDIES = {
    "table": "write whole numbers, -32768 to 32767, of 1/8192 of the jitter each, as "
    "/usr/lib/tc/normal.dist has them",
    "trace": "write one moment a line, in whole milliseconds and ascending: at each, one packet "
    "of up to 1504 bytes leaves (mahimahi)",
}
_KINDS = {"table": "a table of a distribution", "trace": "a packet-delivery trace"}


def _not_a(fault: str, kind: str) -> WrongValueError:
    return WrongValueError(f"the file is not {_KINDS[kind]}: {fault}", _REMEDIES[kind])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _no_file(word: str, path: Path) -> WrongValueError:
    if path.exists():
        kind = "a folder" if path.is_dir() else "a device or a pipe"
        return WrongValueError(f"{show(word)} is {kind}, and has to be a file", _beside(path))
    return WrongValueError(f"there is no file {show(word)}", _beside(path))


def _beside(path: Path) -> str:
    path = path / "a file" if path.is_dir() else path
    try:
        names = sorted(one.name for one in path.parent.iterdir() if one.is_file())
    except OSError:
        return "names are seen from the folder of the topology"
    return one_of(path.name, names, "files there") if names else "there is no file in that folder"
