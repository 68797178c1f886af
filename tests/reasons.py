"""Write the tables of docs/doctor.md from the table of reasons: `python -m tests.reasons` does it, a test compares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bridge.hypervisors.finding import Finding, Weight
from bridge.hypervisors.reasons import REASONS

PAGE = Path(__file__).parent.parent / "docs" / "doctor.md"

MARK = "<!-- From here on `make reference` writes, from bridge/hypervisors/reasons.py. -->\n"

_WEIGHTS = {
    Weight.BLOCKS: "Reasons why no machine starts",
    Weight.SLOWS: "Reasons why machines are slow",
    Weight.DOUBTS: "What may be in the way",
    Weight.NOTES: "Worth knowing",
}


def page() -> str:
    """Return the whole page: what people have written, and the tables below it."""
    written, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    return "\n".join([written + mark, *(line for weight in Weight for line in _part(weight))])


def _part(weight: Weight) -> Iterator[str]:
    yield f"### {_WEIGHTS[weight]}"
    yield ""
    yield "| code | move | what is said | when | known from |"
    yield "|---|---|---|---|---|"
    for reason in REASONS.values():
        if reason.weight is weight:
            sentence = Finding(reason, {name: f"*{name}*" for name in reason.names}).sentence
            mended = " (`--fix`)" if reason.remedy else ""
            cells = (f"`{reason.code}`{mended}", reason.move.value, sentence, reason.when, reason.source)
            yield "| " + " | ".join(re.sub(r"\|", r"\\|", cell) for cell in cells) + " |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
