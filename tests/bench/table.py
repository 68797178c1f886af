"""The figures as one table for people, narrow enough for 80 columns; what is left out of it is in build/bench.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from .figures import NOT_PRESENT, Figure


def table(measured: Mapping[str, Sequence[Figure]]) -> Table:
    """Return the table of all measurements. A value is the median where its name does not say p99."""
    made = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for column in ("", "ours", "peer"):
        made.add_column(column, justify="right" if column else "left", no_wrap=True)
    made.add_column("")
    made.add_column("ratio", justify="right")
    made.add_column("wanted")
    for name, figures in measured.items():
        made.add_row(Text(name, style="bold"))
        for figure in figures:
            made.add_row(*map(Text, _row(figure)))
    return made


def _row(figure: Figure) -> list[str]:
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    peer = ("", "") if figure.peer is None else (_value(figure.theirs), figure.peer.name)
    return [f" {figure.name}", f"{_value(figure.ours)} {figure.unit}", *peer, ratio, figure.wanted]


def _value(value: float | None) -> str:
    if value is None:
        return NOT_PRESENT
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
