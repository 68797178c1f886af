"""What an element may hold, as a table: from it files are read (by voluptuous) and the reference page is written.

A row is an element: its name, its kind of text or the table of what it holds itself, its default, whether it may be
repeated, whose it is, and what is said about it. Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import voluptuous as vol

from .findings import Finding, Kind
from .tags import Element, Form
from .values import Said, Value, any_text


class Whose(enum.Enum):
    """The program whose element it is. What is wrong with an old program's number is ignored, with ours refused."""

    WRAPPER = "wrapper"
    VMWRAPPER = "VMwrapper"
    VBOXWRAPPER = "vboxwrapper"
    OURS = "ours"


Remark = Callable[[Any], "tuple[Kind, str] | None"]


@dataclass(frozen=True, slots=True)
class Row:
    """One element. `meaning` is a sentence for the page, `default_said` what the page says of the default.

    `required`: what to do where it is missing. `deprecated`: what to write instead. `refused`: the sentence for
    whoever asks for anything but the default. `remark` returns what is to be told about a value, if anything.
    """

    name: str
    value: Value | Table
    meaning: str
    whose: Whose
    default: Any = None
    default_said: str = ""
    repeats: bool = False
    required: str = ""
    deprecated: str = ""
    refused: str = ""
    remark: Remark | None = None


@dataclass(frozen=True)
class Table:
    """What one element may hold. `elsewhere`: names that mean something in other tables, and what is said here."""

    about: str
    rows: tuple[Row, ...]
    elsewhere: Mapping[str, tuple[Kind, str]] = field(default_factory=dict)

    @cached_property
    def row(self) -> Mapping[str, Row]:
        """The rows by their names."""
        return {row.name: row for row in self.rows}

    @cached_property
    def form(self) -> Form:
        """What the reader of tags is to know of it."""
        inside = {row.name: row.value.form for row in self.rows if isinstance(row.value, Table)}
        leaves = {row.name: row.value.reads for row in self.rows if isinstance(row.value, Value)}
        return Form(dict.fromkeys(self.elsewhere, any_text) | leaves, inside)

    @cached_property
    def schema(self) -> vol.Schema:
        """The texts of each element, by its name, to their values."""
        return vol.Schema(
            {
                vol.Optional(row.name, default=list, description=row.meaning): [row.value.check]
                for row in self.rows
                if isinstance(row.value, Value)
            }
        )


@dataclass(slots=True)
class Values:
    """What the elements in one element say, by name: a tuple where it may be repeated, the default where it is absent.

    `given` has the element that counts of each that is there, `holders` those that hold others, in order.
    """

    element: Element
    of: dict[str, Any]
    given: dict[str, Element]
    holders: list[Element]

    def __getitem__(self, name: str) -> Any:
        return self.of[name]


def read(table: Table, element: Element, findings: list[Finding]) -> Values | None:
    """Read the children of `element` by `table`, and add what is found. Return None if there is an error in them."""
    before = len(findings)
    texts: dict[str, list[Element]] = {}
    holders = []
    for child in element.children:
        row = table.row.get(child.name)
        if row is None:
            findings.append(_unknown(table, child))
        elif isinstance(row.value, Table):
            holders.append(child)
            findings += _deprecated(row, child)
        elif child.fault:
            findings.append(_faulty(row, child))
        else:
            texts.setdefault(child.name, []).append(child)
    values = _check(table, texts, findings)
    for name, row in table.row.items():
        if name in texts and name in values:
            findings += _judge(row, texts[name], values[name])
    result = Values(element, {}, {}, holders)
    for name, row in table.row.items():
        if isinstance(row.value, Value):
            _settle(row, texts.get(name, []), values.get(name, []), result)
            missing = row.required and result.of[name] in (None, "", ())
            if missing and not _refused(findings[before:], name):
                findings.append(_missing(row, element))
    return None if any(finding.kind is Kind.ERROR for finding in findings[before:]) else result


def _refused(findings: Iterable[Finding], name: str) -> bool:
    return any(finding.element == name and finding.kind is Kind.ERROR for finding in findings)


def _missing(row: Row, element: Element) -> Finding:
    """Say that an element that must be there is not; it may be gone with one that has no end."""
    broken = next((child for child in element.children if child.fault), None)
    if broken is None:
        return Finding(element.line, element.name, f"has no <{row.name}>. {row.required}")
    gone = "" if broken.name == row.name else f", and with it <{row.name}> is gone"
    return Finding(broken.line, broken.name, f"{broken.fault}{gone}. Close it")


def _unknown(table: Table, child: Element) -> Finding:
    if child.name in table.elsewhere:
        kind, sentence = table.elsewhere[child.name]
        return Finding(child.line, child.name, sentence, kind)
    return Finding(child.line, child.name, "is not known here and ignored", Kind.UNKNOWN)


def _deprecated(row: Row, child: Element) -> list[Finding]:
    return [Finding(child.line, child.name, row.deprecated, Kind.DEPRECATED)] if row.deprecated else []


def _faulty(row: Row, child: Element) -> Finding:
    """An element without its end: BOINC's programs take it for none, others never took the file."""
    if row.whose in (Whose.WRAPPER, Whose.VBOXWRAPPER):
        return Finding(child.line, child.name, f"{child.fault} and is ignored", Kind.IGNORED)
    return Finding(child.line, child.name, f"{child.fault}. Close it")


def _check(table: Table, texts: dict[str, list[Element]], findings: list[Finding]) -> dict[str, list[Any]]:
    """Return the values of all texts; those that are wrong are found, and taken out of `texts`."""
    try:
        return dict(table.schema(_document(texts)))
    except vol.MultipleInvalid as error:
        wrong = [(str(found.path[0]), int(str(found.path[1])), _innermost(found)) for found in error.errors]
    for name, index, found in wrong:
        value, child = table.row[name].value, texts[name][index]
        assert isinstance(value, Value)
        phrase = value.phrase.replace("<name/>", f"<{name}/>")
        sentence = found.msg if isinstance(found, Said) else f"{child.text or ''!r:.80} is not {phrase}"
        if value.lenient:
            findings.append(Finding(child.line, name, f"{sentence}; it is ignored", Kind.IGNORED))
        else:
            findings.append(Finding(child.line, name, sentence))
    out = {(name, index) for name, index, _ in wrong}
    for name in {name for name, _, _ in wrong}:
        texts[name] = [child for index, child in enumerate(texts[name]) if (name, index) not in out]
    return dict(table.schema(_document(texts)))


def _innermost(error: vol.Invalid) -> vol.Invalid:
    while isinstance(error, vol.MultipleInvalid):
        error = error.errors[0]
    return error


def _document(texts: Mapping[str, list[Element]]) -> dict[str, list[str | None]]:
    return {name: [child.text for child in children] for name, children in texts.items()}


def _judge(row: Row, children: list[Element], values: list[Any]) -> list[Finding]:
    """Say what is to be said of the values of one element."""
    found = []
    if len(children) > 1 and not row.repeats:
        last = children[-1]
        if row.whose is Whose.OURS:
            found.append(Finding(last.line, row.name, f"is there already, in line {children[0].line}. Keep one"))
        else:
            sentence = f"is there already, in line {children[0].line}; this one counts"
            found.append(Finding(last.line, row.name, sentence, Kind.IGNORED))
    for child, value in zip(children, values, strict=True):
        found += _deprecated(row, child)
        if row.refused and value not in (None, "", (), row.default):
            found.append(Finding(child.line, row.name, row.refused))
        if row.remark and value not in (None, "") and (remark := row.remark(value)):
            found.append(Finding(child.line, row.name, remark[1], remark[0]))
    return found


def _settle(row: Row, children: list[Element], values: list[Any], result: Values) -> None:
    """Decide what counts: all, of one that may be repeated, else the last. To VMwrapper, an empty one was not there."""
    nothing = (None, "") if row.whose is Whose.VMWRAPPER else (None,)
    said = [(child, value) for child, value in zip(children, values, strict=True) if value not in nothing]
    if said:
        result.given[row.name] = said[-1][0]
    if row.repeats:
        result.of[row.name] = tuple(value for _, value in said if value != "")
    else:
        result.of[row.name] = said[-1][1] if said else row.default
