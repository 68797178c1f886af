"""Every implementation runs every vector: bytes in, one canonical line out."""

from __future__ import annotations

import enum
import re
import types
from collections.abc import Callable
from typing import Any

import pytest

from guest_side.python.bundle import KINDS, bundle
from protocol import VERSION, codec, layout, messages
from protocol.errors import Incomplete, RemoteProtocolError

from ..conftest import REPOSITORY

VECTORS = REPOSITORY / "protocol" / "vectors"
DOCUMENT = (REPOSITORY / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")

Adapter = Callable[[str, bytes], str]


def canonical(kind: str, message: Any, keys: Callable[[Any], dict[str, messages.Wire]] = codec.keys) -> str:
    """Write a message as the one line on which all implementations agree."""
    said = [("protocol", str(VERSION))] if type(message) in messages.VERSIONED else []
    for key, wire in keys(type(message)).items():
        value = getattr(message, key)
        said += [(key, canonical_value(one)) for one in (value if wire.many else () if value is None else (value,))]
    return " ".join(["ok", kind, *(f"{key}={value}" for key, value in said)])


def canonical_value(value: object) -> str:
    """Write one value: numbers in twelve digits, everything else with percent signs for what is not plain ASCII."""
    if isinstance(value, float):
        return format(value, ".12g")
    raw = str(value.value if isinstance(value, enum.Enum) else value).encode()
    return "".join(chr(byte) if 0x21 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}" for byte in raw)


def python_adapter(kind: str, data: bytes) -> str:
    """The Python implementation's canonical line."""
    try:
        if kind != "filename":
            return canonical(kind, codec.decode(kind, data))
        name = layout.parse_name(data.decode("utf-8", "surrogateescape"))
    except Incomplete:
        return "incomplete"
    except RemoteProtocolError as error:
        return f"invalid {error.rule}"
    if name.kind is None:
        return "ok filename ignored"
    return (
        f"ok filename known={name.kind}" if name.number is None else f"ok filename numbered={name.kind} n={name.number}"
    )


@pytest.fixture(params=["python", "c"])
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Each implementation in turn."""
    if request.param == "python":
        return python_adapter
    found: Adapter = request.getfixturevalue("c_adapter")
    return found


@pytest.fixture(scope="module")
def guest() -> types.ModuleType:
    """`boinc.py` as a program in the guest imports it."""
    module = types.ModuleType("boinc")
    exec(compile(bundle(), "boinc.py", "exec"), module.__dict__)
    return module


def guest_adapter(guest: types.ModuleType, kind: str, data: bytes) -> str:
    """The canonical line of the one file for Python programs in the guest."""
    try:
        return canonical(kind, guest.decode(kind, data), guest.keys)
    except guest.Incomplete:
        return "incomplete"
    except guest.RemoteProtocolError as error:
        return f"invalid {error.rule}"


def vectors(folder: str) -> list[str]:
    """The names of the vectors in `valid` or `invalid`."""
    return sorted(path.name for path in (VECTORS / folder).iterdir() if path.suffix != ".line")


def program_vectors(folder: str) -> list[str]:
    """Those of the messages that a program in the guest reads or writes."""
    return [name for name in vectors(folder) if name.split(".")[1] in KINDS]


@pytest.mark.parametrize("name", vectors("valid"))
def test_valid(name: str, adapter: Adapter) -> None:
    data = (VECTORS / "valid" / name).read_bytes()
    expected = (VECTORS / "valid" / f"{name}.line").read_text(encoding="ascii").rstrip("\n")
    assert adapter(name.split(".")[1], data) == expected


@pytest.mark.parametrize("name", vectors("invalid"))
def test_invalid(name: str, adapter: Adapter) -> None:
    rule, kind, *_ = name.split(".")
    expected = "incomplete" if rule == "R03" else f"invalid R{int(rule[1:])}"
    assert adapter(kind, (VECTORS / "invalid" / name).read_bytes()) == expected


@pytest.mark.parametrize("name", program_vectors("valid"))
def test_valid_for_a_python_program_in_the_guest(name: str, guest: types.ModuleType) -> None:
    kind, data = name.split(".")[1], (VECTORS / "valid" / name).read_bytes()
    expected = (VECTORS / "valid" / f"{name}.line").read_text(encoding="ascii").rstrip("\n")
    assert guest_adapter(guest, kind, data) == expected
    if "=" in expected:  # a message without any value is read, and never written
        assert guest.encode(guest.decode(kind, data)) == codec.encode(codec.decode(kind, data)), "the same bytes"


@pytest.mark.parametrize("name", program_vectors("invalid"))
def test_invalid_for_a_python_program_in_the_guest(name: str, guest: types.ModuleType) -> None:
    rule, kind, *_ = name.split(".")
    expected = "incomplete" if rule == "R03" else f"invalid R{int(rule[1:])}"
    assert guest_adapter(guest, kind, (VECTORS / "invalid" / name).read_bytes()) == expected


@pytest.mark.parametrize("folder", ["valid", "invalid"])
def test_every_rule_has_a_vector(folder: str) -> None:
    rules = {int(number) for number in re.findall(r"^- \*\*R(\d+)\*\*", DOCUMENT, re.MULTILINE)}
    assert rules == set(range(1, len(rules) + 1)), "rules are numbered without gaps"
    assert {int(name[1:3]) for name in vectors(folder)} == rules


def test_every_example_in_the_document_is_a_vector() -> None:
    examples = re.findall(r"^(?:<!-- vector: (\S+) -->\n)?```(\w*)\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert len(examples) >= len(messages.KINDS)
    for vector, language, text in examples:
        if language == "sh":
            continue
        assert vector, f"an example without a vector:\n{text}"
        assert (VECTORS / vector).read_bytes() == text.encode()


def test_the_document_has_an_example_of_every_message() -> None:
    shown = {vector.split(".")[1] for vector in re.findall(r"<!-- vector: (\S+) -->", DOCUMENT)}
    assert shown == set(messages.KINDS)


def test_the_table_in_the_document_is_the_one_in_the_code() -> None:
    table = DOCUMENT.split("## All messages")[1].split("One example")[0]
    documented: dict[str, dict[str, tuple[bool, bool, str]]] = {}
    kind = ""
    for cells in (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")
    ):
        if named := re.fullmatch(r"`(\w+)(\.N)?`", cells[0]):
            kind = named[1]
        if kind:
            marks = re.sub(r"`[^`]*`", "", cells[1])
            row = ("R" in marks, "*" in marks, cells[2].split()[0].rstrip(":") if cells[2] else "")
            documented.setdefault(kind, {}).update(dict.fromkeys(re.findall(r"`(\w+)`", cells[1]), row))
    for kind, message in messages.KINDS.items():
        if kind == "fraction_done":
            continue
        keys = documented.pop(kind)
        if message in messages.VERSIONED:
            assert keys.pop("protocol") == (True, False, "version")
        in_code = {key: (wire.required, wire.many) for key, wire in codec.keys(message).items()}
        assert {key: row[:2] for key, row in keys.items()} == in_code, kind
        types = {key: wire.form for key, wire in codec.keys(message).items()}
        assert all(row[2] in ("", types[key]) for key, row in keys.items()), kind
    assert not documented


def test_every_behaviour_is_proved_by_a_test_that_names_it() -> None:
    rules = set(re.findall(r"\*\*(B\d+)\*\*", DOCUMENT))
    tests = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py"))
    named = {rule for names in re.findall(r"mark\.behaviour\(([^)]*)\)", tests) for rule in re.findall(r"B\d+", names)}
    assert rules - named == set(), "behaviours without a test"
    assert named - rules == set(), "tests of behaviours that do not exist"
