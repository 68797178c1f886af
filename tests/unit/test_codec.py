"""Writing messages, and what the vectors cannot show: errors for people."""

from __future__ import annotations

import pytest

from protocol.codec import decode, encode, is_name, size_limit
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.messages import Command, FractionDone, HostState, Message, Task, TrickleUp


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Command(3, HostState.PREPARE), b"protocol 1\nseq 3\nstate prepare\n"),
        (Command(3, HostState.PREPARE, away=2.5), b"protocol 1\nseq 3\nstate prepare\naway 2.5\n"),
        (FractionDone(0.25), b"0.25\n"),
        (Task("x", arg=("", " a ")), b"protocol 1\nprogram x\narg \narg  a \n"),
        (TrickleUp("v", ("1", "2")), b"variety v\ntext 1\ntext 2\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_writes_what_it_would_read(message: Message, expected: bytes) -> None:
    assert encode(message) == expected


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (Command(0, HostState.RUN), "R12"),
        (FractionDone(1.5), "R15"),
        (FractionDone(float("nan")), "R15"),
        (Task("../x"), "R16"),
        (Task("x", arg=("two\nlines",)), "R6"),
        (Task("x", arg=("escape \x1b",)), "R7"),
        (Task("x", arg=("y" * 1025,)), "R18"),
        (Task("x", arg=("\udcff",)), "R2"),
        (Task("x", env=("no equals sign",)), "R17"),
        (Task("x", arg=("y",) * 1024), "R4"),
        (Task("x", arg=("z\nprogram y",)), "R8"),
    ],
)
def test_refuses_to_write_what_nobody_could_read(message: Message, rule: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode(message)
    assert caught.value.rule == rule


def test_an_argument_cannot_smuggle_a_line_in() -> None:
    with pytest.raises(LocalProtocolError):
        encode(Task("x", arg=("a\nenv LD_PRELOAD=evil",)))


@pytest.mark.behaviour("B16")
def test_an_unknown_version_is_refused_by_name() -> None:
    with pytest.raises(RemoteProtocolError, match=r"protocol '2' is not known here, only protocol 1 \(R10\)"):
        decode("status", b"protocol 2\nstate ready\nheartbeat 0\n")


def test_foreign_text_is_quoted_short_and_harmless() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode("status", b"protocol 1\nstate " + "\u202eé".encode() * 200 + b"\nheartbeat 0\n")
    assert str(caught.value).isascii() and len(str(caught.value)) < 600


def test_a_number_file_is_small() -> None:
    assert size_limit("fraction_done") < size_limit("status")


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "C:", "a\nb", "n" * 256, "\udcff" * 256])
def test_no_plain_file_name(name: str) -> None:
    assert not is_name(name)
