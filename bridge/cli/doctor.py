"""`vmbridge doctor`: which hypervisors are here, whether each can start a machine, and if not why and what to do."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from .. import __version__
from ..hypervisors.diagnosis import Diagnosis, about_the_computer, diagnose
from ..hypervisors.facts import CLIENT, Facts
from ..hypervisors.finding import Finding, Weight
from ..hypervisors.qemu.probe import PROGRAMS
from ..hypervisors.survey import survey
from .remedies import apply, commands_of, here, line
from .terminal import printable

FORMAT = 1
"""Of --json. It grows by new keys; a key that changes its meaning makes another number."""

_DATA = Path("/var/lib/boinc-client")
"""Where Debian's client keeps its slots."""

_MARKS = {Weight.BLOCKS: "no machine", Weight.SLOWS: "slower", Weight.DOUBTS: "perhaps", Weight.NOTES: "note"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option("--fix", is_flag=True, help="Do what needs no decision; without being root, say what to type.")
@click.option(
    "--arch",
    type=click.Choice(tuple(PROGRAMS)),
    default="x86_64",
    metavar="ARCH",
    help=f"For images of this architecture: {', '.join(PROGRAMS)}.  [default: x86_64]",
)
@click.option("--images", is_flag=True, help="Also say which programs `vmbridge image build` lacks.")
def doctor(as_json: bool, fix: bool, arch: str, images: bool) -> None:
    """Say which hypervisors are here, whether each can start a machine, and if not why and what to do.

    Exits with 0 if a machine can be started here, with 1 if not.
    """
    logging.getLogger("bridge.hypervisors.qemu.probe").setLevel(logging.ERROR)  # all that it would say is said below
    facts = look(arch, images=images)
    if fix and (commands := here(commands_of(worth_mending(facts)))):
        if _is_root():
            apply(commands, lambda text: click.echo(printable(text), err=True))
            facts = look(arch, images=images)
        else:
            click.echo(f"To do it, root is needed. Type: {line(commands)}", err=True)
    click.echo(
        json.dumps(as_data(facts), indent=2) if as_json else "\n".join(map(printable, lines(facts, hint=not fix)))
    )
    sys.exit(0 if can_start(facts) else 1)


def look(arch: str = "x86_64", *, images: bool = False) -> Facts:
    """Collect the facts about this computer, for images of `arch`; with `images` also for those who make some."""
    from ..image.tools import PACKAGES, found

    folders = [folder for folder in (_DATA, Path.cwd()) if folder.is_dir()]
    facts = asyncio.run(survey(arch=arch, folders=folders, others=True, try_kvm=True))
    missing = {name: package for name, package in PACKAGES.items() if images and not found(name)}
    return replace(facts, tools_missing=missing)


def can_start(facts: Facts) -> bool:
    """Say whether the bridge can start a machine here."""
    return any(diagnosis.how for diagnosis in diagnose(facts))


def worth_mending(facts: Facts) -> Iterator[Finding]:
    """What `--fix` is for. Which hypervisor to install is a decision, unless there is none: then it is QEMU. Whether
    to build images is one, too.
    """
    for diagnosis in diagnose(facts):
        if (diagnosis.installed and diagnosis.name in facts.served) or (
            diagnosis.name == "qemu" and not can_start(facts)
        ):
            yield from diagnosis.findings


def lines(facts: Facts, *, hint: bool = True) -> Iterator[str]:
    """Say it to a person, with a `hint` at `--fix`."""
    diagnoses = diagnose(facts)
    for diagnosis in diagnoses:
        yield f"{diagnosis.title}: {_state(diagnosis)}"
        if diagnosis.installed:
            # What else keeps one from machines that is not driven at all helps nobody.
            driven = diagnosis.name in facts.served or diagnosis.name in facts.others
            yield from _told(diagnosis.findings if driven else diagnosis.findings[:1])
    yield from _told(about_the_computer(facts), indent="")
    best = next((diagnosis.how for diagnosis in diagnoses if diagnosis.how), None)
    yield "No machine can be started here." if best is None else f"Machines can be started here: {best}."
    if best is None and (qemu := diagnoses[0]).name == "qemu" and not qemu.installed:
        yield qemu.findings[0].sentence
    if hint and (commands := here(commands_of(worth_mending(facts)))):
        yield f"`vmbridge doctor --fix`, as root, would do: {'; '.join(map(shlex.join, commands))}"


def _state(diagnosis: Diagnosis) -> str:
    if not diagnosis.installed:
        return "not installed"
    version = f"version {diagnosis.version}" if diagnosis.version else "version unknown"
    return f"{version}, cannot start machines" if diagnosis.how is None else f"can start machines ({diagnosis.how})"


def _told(findings: tuple[Finding, ...], indent: str = "  ") -> Iterator[str]:
    for finding in findings:
        yield f"{indent}{_MARKS[finding.weight]}: {finding.sentence}"
        if finding.details:
            yield f"{indent}  ({finding.details:.200})"


def as_data(facts: Facts) -> dict[str, Any]:
    """Say it to a program (docs/doctor.md)."""
    diagnoses = diagnose(facts)
    host = facts.host
    return {
        "format": FORMAT,
        "bridge": __version__,
        "can_start": can_start(facts),
        "host": {
            "system": host.system,
            "machine": host.machine,
            "kernel": host.kernel,
            "user": host.me.name,
            "client_user": host.client.name if host.client else CLIENT if host.me.name == CLIENT else None,
            "python": facts.python,
        },
        "hypervisors": [
            {
                "name": diagnosis.name,
                "installed": diagnosis.installed,
                "version": diagnosis.version,
                "served": diagnosis.name in facts.served or diagnosis.name in facts.others,
                "can_start": diagnosis.how is not None,
                "how": diagnosis.how,
                "findings": [_data(finding) for finding in diagnosis.findings],
            }
            for diagnosis in diagnoses
        ],
        "findings": [_data(finding) for finding in about_the_computer(facts)],
    }


def _data(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.reason.code,
        "weight": finding.weight.value,
        "move": finding.reason.move.value,
        "what": finding.what,
        "do": finding.do,
        "details": finding.details,
        "commands": [list(command) for command in finding.commands],
    }


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
