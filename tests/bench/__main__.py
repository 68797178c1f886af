"""`python -m tests.bench [NAME ...]`: measure, print a table for each, write build/bench.json.

The file always describes the last run alone: what was not measured in it is not in it. Nothing is asserted; the exit
status is 1 only if a measurement could not be made.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from rich.console import Console

from .figures import Figure
from .machine_facts import machine_facts, versions
from .others import Others
from .scratch import BUILD
from .table import table

NAMES = (
    "notice",
    "boot",
    "hot_calls",
    "staging",
    "quiet",
    "told",
    "hello",
    "attended",
    "orders",
    "checkpoint",
    "libvirt",
    "virtualbox",
    "vmware",
)
RESULTS = BUILD / "bench.json"


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement as it went: `trouble` says why there are no figures."""

    name: str
    what: str
    seconds: float
    others: float
    figures: Sequence[Figure]
    trouble: str = ""

    def as_json(self) -> dict[str, object]:
        """Return it as it stands in build/bench.json."""
        return {
            "what": self.what,
            "seconds": round(self.seconds, 1),
            "cpus_busy_elsewhere": round(self.others, 2),
            "figures": [figure.as_json() for figure in self.figures],
            "trouble": self.trouble,
        }


def main() -> int:
    """Run what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure, side by side with a peer.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(NAMES)}; without any, all")
    names = parser.parse_args().names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}. Choose from: {', '.join(NAMES)}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    head = {"when": datetime.now(timezone.utc).isoformat(timespec="seconds"), "machine": machine_facts()}
    console = Console(highlight=False)
    measured = [_measure(console, name) for name in names]
    console.print(table({one.name: one.figures for one in measured}))
    results = {**head, "versions": versions(), "measurements": {one.name: one.as_json() for one in measured}}
    BUILD.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    console.print(f"{RESULTS.relative_to(BUILD.parent)}: the spread, the machine, the versions, what is measured how")
    return 1 if any(one.trouble for one in measured) else 0


def _measure(console: Console, name: str) -> Measured:
    """Make one measurement; if it fails, the others go on."""
    what, trouble = "", ""
    figures: list[Figure] = []
    begun, others = time.monotonic(), Others()
    try:
        module = importlib.import_module(f".{name}", __package__)
        what = inspect.getdoc(module.measure) or ""
        figures = module.measure()
    except Exception as error:
        trouble = f"{type(error).__name__}: {error}"
        logging.getLogger(__name__).debug("%s", name, exc_info=error)
    measured = Measured(name, what, time.monotonic() - begun, others.cpus(), figures, trouble)
    console.print(_told(measured), markup=False)
    return measured


def _told(one: Measured) -> str:
    if one.trouble:
        return f"{one.name} could not be measured: {one.trouble}"
    return f"{one.name}: {one.seconds:.0f} s; meanwhile everything else kept {one.others:.2f} CPUs busy"


if __name__ == "__main__":
    sys.exit(main())
