"""What the client takes from an application's messages, by the rules of its parser. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|nan)\w*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Task:
    """What the client knows of a task. Times are CPU seconds; 0 operations are unknown."""

    current_cpu_time: float = 0.0
    checkpoint_cpu_time: float = 0.0
    fraction_done: float = 0.0
    checkpoints: int = 0
    fpops_cumulative: float = 0.0
    intops_cumulative: float = 0.0
    want_network: bool = False
    wss: float | None = None


def take_status(task: Task, text: str, *, version: tuple[int, int] = (7, 20)) -> Task:
    """Return the task after an `app_status`.

    Both CPU times count as 0 where they are missing; a checkpoint is every change of `checkpoint_cpu_time`, downwards
    too; a fraction of 0 is not taken; `wss` is known from 8.2 on.
    """
    assert (other := other_pid(text)) is None or other > 0, f"other_pid {other}: the client would kill its own group"
    found = {tag: number(text, tag) for tag in ("current_cpu_time", "checkpoint_cpu_time")}
    current, checkpoint = (max(0.0, value or 0.0) for value in found.values())
    return replace(
        task,
        current_cpu_time=current,
        checkpoint_cpu_time=checkpoint,
        checkpoints=task.checkpoints + (checkpoint != task.checkpoint_cpu_time),
        fraction_done=number(text, "fraction_done") or task.fraction_done,
        fpops_cumulative=number(text, "fpops_cumulative") or task.fpops_cumulative,
        intops_cumulative=number(text, "intops_cumulative") or task.intops_cumulative,
        want_network=bool(number(text, "want_network")),
        wss=(number(text, "wss") or task.wss) if version >= (8, 2) else task.wss,
    )


def other_pid(text: str) -> int | None:
    """Return the process that the application calls its own; None if it names none."""
    value = number(text, "other_pid")
    return None if value is None else int(value)


def number(text: str, tag: str) -> float | None:
    """Return the number after a tag; None if the tag is missing or the number is not finite.

    What is no number counts as 0, as C's strtod says.
    """
    _, found, rest = text.partition(f"<{tag}>")
    if not found:
        return None
    match = _NUMBER.match(rest)
    value = float(match[1]) if match else 0.0
    return value if math.isfinite(value) else None
