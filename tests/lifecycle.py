"""Draw the tables of the middle into docs/lifecycle.md: `python -m tests.lifecycle` writes it, a test compares."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bridge.life.tables import CHECKPOINT, JOB, MACHINE

PAGE = Path(__file__).parent.parent / "docs" / "lifecycle.md"

HEAD = """\
# The life of a task, drawn from its tables

Written by `make lifecycle` from `bridge/life/tables.py`; a test sees to it that the two agree. What an event does not
change is left out of the drawings and stands below each. Actions stand behind the event that causes them.
"""

PARTS = (
    ("The job", JOB, "From the first file staged to the last trace removed."),
    ("The machine", MACHINE, "Held by the client, by its silence, or by a checkpoint; it runs when nothing holds it."),
    ("A checkpoint of the machine", CHECKPOINT, "However it ends, the guest is told to go on."),
)


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(_part(title, table, about) for title, table, about in PARTS)])


def _part(title: str, table: dict[Any, dict[Any, Any]], about: str) -> str:
    lines = [f"## {title}", "", about, "", "```mermaid", "stateDiagram-v2", f"    [*] --> {_name(next(iter(table)))}"]
    stays = []
    for state, row in table.items():
        merged: dict[tuple[Any, tuple[Any, ...]], list[str]] = {}
        for event, (after, actions) in row.items():
            if after is state and not actions:
                continue
            merged.setdefault((after, actions), []).append(event.value)
        for (after, actions), events in merged.items():
            lines.append(f"    {_name(state)} --> {_name(after)} : {_label(events, actions)}")
        if not row:
            lines.append(f"    {_name(state)} --> [*]")
        if same := [event.value for event, (after, actions) in row.items() if after is state and not actions]:
            stays.append(f"- *{state.value}* stays as it is at: {', '.join(same)}")
    return "\n".join([*lines, "```", "", *stays, ""])


def _name(state: Any) -> str:
    return str(state.name)


def _label(events: Iterable[str], actions: Iterable[Any]) -> str:
    what = ", ".join(action.value for action in actions)
    return " or ".join(events) + (f" / {what}" if what else "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
