"""What the Docker engine complains of, as errors with a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.errors import LabError


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn the engine's complaints into LabError; `NotFound` passes for those who expect it."""
    from docker.errors import APIError, NotFound  # noqa: PLC0415 - 100 ms
    from requests.exceptions import RequestException  # noqa: PLC0415 - as above

    try:
        yield
    except NotFound:
        raise
    except APIError as error:
        text = str(error.explanation or error).strip()
        raise LabError(f"{what}: {text}", remedy=_remedy(text)) from error
    except (RequestException, OSError) as error:
        raise LabError(
            f"{what}: the Docker engine does not answer ({error})",
            remedy="see the engine's log (journalctl -u docker)",
        ) from error


def _remedy(text: str) -> str:
    if "already in use" in text:
        return "give the lab another name, or remove that container: docker rm -f NAME"
    if "bind source path does not exist" in text:
        return "correct `mounts:` in the topology, or make the folder"
    if "exec format error" in text:
        return "the image is for another kind of machine: get it for this one"
    return ""
