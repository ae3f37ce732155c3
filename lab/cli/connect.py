"""`lab connect`: let two peers connect, and say what worked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from lab.cli.labs import json_option, lab_option, techniques_option

if TYPE_CHECKING:
    from lab.cli.course import Course
    from lab.paths import LabPaths
    from lab.plan.model import Plan
    from lab.predict import Prediction


@click.command()
@click.argument("local", metavar="A")
@click.argument("remote", metavar="B")
@techniques_option()
@click.option("--first", is_flag=True, help="Stop at the first technique that works.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 60),
    default=None,
    metavar="SECONDS",
    help="How long each technique may take at most.  "
    "[default: 24 round trips between the two, at least 10, at most 60]",
)
@click.option(
    "--goodput",
    type=click.FloatRange(0, 5),
    default=None,
    metavar="SECONDS",
    help="How long to measure what each path carries.  "
    "[default: 1, the same path once only; with --first 0]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="What techniques should do otherwise than usual (docs/techniques); may be repeated.",
)
@click.option(
    "--prove",
    is_flag=True,
    help="Say how the routers' connection tracking proves each path; exit code 1 if it does not.",
)
@lab_option
@json_option
def command(
    *,
    local: str,
    remote: str,
    techniques: tuple[str, ...],
    first: bool,
    timeout: float | None,
    goodput: float | None,
    settings: tuple[str, ...],
    prove: bool,
    lab_name: str | None,
    as_json: bool,
) -> None:
    """Let peer A connect to peer B by every technique, and say what worked.

    Exit code 0 if at least one technique connected them, 1 if none did, if the
    topology file expects something else, or with --prove if a path is not proven.
    Where each leads is read from the routers on the way, never taken from a peer.  An
    outcome that contradicts what `lab predict` says is pointed out: a NAT is not
    what it claims, or there is a fault in lab.
    """
    from lab.agent import client
    from lab.cli.course import Course
    from lab.cli.labs import choose
    from lab.cli.pair import check_ends, check_techniques, options
    from lab.cli.terminal import print_json, say
    from lab.observe.expect import differences
    from lab.topology.outcomes import CONNECTED

    paths = choose(lab_name)
    # Who may not look at the lab is told so before more is read from disk.
    from concurrent.futures import ThreadPoolExecutor

    course = Course(paths)
    plan = course.plan
    check_ends(paths, local, remote)
    check_techniques(techniques)
    order = {
        "do": "connect",
        "local": local,
        "remote": remote,
        "techniques": list(techniques),
        "first": first,
        "timeout_s": timeout,
        "goodput_s": (0.0 if first else 1.0) if goodput is None else goodput,
        "goodput_once": goodput is None,
        "options": options(settings),
    }
    # While peers are at it, there is time for what is needed when they are done.
    foretold = ThreadPoolExecutor(1).submit(_foretell, plan, local, remote)
    records: list[dict[str, Any]] = []
    health: dict[str, Any] = {}
    began = time.monotonic()
    for answer in client.ask(paths, order):
        if answer.get("event") == "attempt":
            record = answer["record"]
            if record["outcome"] in CONNECTED:
                record["proof"] = _proof(course, paths, record)
            records.append(record)
            if not as_json:
                say(finished(record, time.monotonic() - began))
        health = answer.get("result", health)
    connected = any(record["outcome"] in CONNECTED for record in records)
    surprises = differences(plan.expect, local, remote, records)
    # A prediction is about one plan: a lab that changed meanwhile says nothing, even if
    # it is by now what it was before.
    changed = course.changed()
    prediction = foretold.result()
    contradicted = prediction.contradicted_by(records) if prediction and not changed else []
    if as_json:
        print_json(
            {
                "lab": paths.lab,
                "connected": connected,
                "unexpected": surprises,
                "contradicted": contradicted,
                "distorted": health["reasons"],
                "attempts": records,
            }
        )
    else:
        _show(records, proofs=prove)
        for reason in health["reasons"]:
            say(f"distorted: {reason}")
        for surprise in surprises:
            say(f"not as the file expects: {surprise}")
        for contradiction in contradicted:
            say(f"not as declared, {contradiction}")
        if changed:
            say("the lab changed meanwhile (`lab events`): no prediction was held against it")
    unproven = any(not record["proof"]["proven"] for record in records if "proof" in record)
    if not connected or surprises or (prove and unproven):
        raise click.exceptions.Exit(1)


def _foretell(plan: Plan, local: str, remote: str) -> Prediction | None:
    """What is predicted; None for ends that nothing can be predicted about."""
    from lab.agent import events  # noqa: F401 - read from disk now, for when they are done
    from lab.errors import InputError
    from lab.predict import predict
    from lab.verify import proof  # noqa: F401 - read from disk now, for paths that are found

    try:
        return predict(plan, local, remote)
    except InputError:
        return None


def _proof(course: Course, paths: LabPaths, record: dict[str, Any]) -> dict[str, Any]:
    """What the routers say of a path, asked by the lab as it was when the path was found.

    What was changed meanwhile may have been in force a little earlier, so a later
    lab may prove it as well.
    """
    from lab.verify.proof import prove

    found_at = _found_at(record)
    proofs = (prove(plan, paths, record) for plan in course.plans(found_at))
    first = next(proofs)
    proof = first if first.proven else next((one for one in proofs if one.proven), first)
    told = proof.to_json()
    if not proof.proven and course.changed(found_at):
        told["reason"] += "; the lab was changed after the path was found (`lab events`)"
    return told


def _found_at(record: dict[str, Any]) -> float:
    """When the path of a record was found, in seconds since the epoch; now if it does not say."""
    started_at, took_s = record.get("started_at"), record.get("time_to_path_s")
    if isinstance(started_at, int | float) and isinstance(took_s, int | float):
        return started_at + took_s
    return time.time()


def _show(records: list[dict[str, Any]], *, proofs: bool) -> None:
    """The table of attempts, and what proves their paths: all of `proofs`, or what is amiss."""
    from lab.cli.terminal import say
    from lab.observe.attempts_table import render_attempts

    render_attempts(records)
    for record in records:
        proof = record.get("proof")
        if proof and (proofs or not proof["proven"]):
            word = "proven" if proof["proven"] else "NOT PROVEN"
            say(f"{record['technique']}: {word}: {proof['reason']}")


def finished(record: dict[str, Any], elapsed_s: float) -> str:
    """A line for an attempt that has just ended, `elapsed_s` after the first began."""
    line = f"{elapsed_s:6.1f} s  {record['technique']:<11}  {record['outcome']}"
    to_path = record.get("time_to_path_s")
    return line if to_path is None else f"{line} in {to_path:.2f} s, {record['path']}"
