"""`lab image`: the container images of lab's own."""

from __future__ import annotations

import click


@click.group()
def command() -> None:
    """Build the container images of lab's own."""


@command.command()
@click.argument("image", type=click.Choice(["peer", "base"]), default="peer")
@click.option(
    "--from",
    "source",
    type=click.Choice(["auto", "registry", "debian"]),
    default="auto",
    help="Where the base comes from: a registry, or Debian packages through mmdebstrap.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def build(*, image: str, source: str, as_json: bool) -> None:
    """Build IMAGE, anew if it exists.

    What it stands on is built if that is missing.

    `peer` holds the built-in program, `base` is Python alone.  `auto` asks a
    registry first.
    """
    import time

    from lab.cli.terminal import print_json, say
    from lab.runtime import images
    from lab.runtime.docker import Engine

    began = time.monotonic()
    with Engine.demand() as engine:
        make = images.build_peer if image == "peer" else images.build_base
        name = make(engine, say, images.Source(source))
        size = engine.client.inspect_image(name)["Size"]
    seconds = time.monotonic() - began
    if as_json:
        print_json({"image": name, "bytes": size, "seconds": round(seconds, 3)})
    else:
        click.echo(f"{name}  {size / 1e6:.0f} MB  built in {seconds:.1f} s")
