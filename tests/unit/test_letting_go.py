"""A guest's word for its share, where the hypervisor cannot tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.hypervisors.letting_go import LettingGo
from protocol.codec import encode
from protocol.files import write_atomic
from protocol.layout import COMMAND, STATUS, Share
from protocol.messages import Command, GuestState, HostState, Status


@pytest.fixture
def share(tmp_path: Path) -> Share:
    share = Share.two_folders(tmp_path)
    share.host.mkdir()
    share.guest.mkdir()
    return share


def order(share: Share, seq: int, state: HostState) -> None:
    write_atomic(share.host / COMMAND, encode(Command(seq, state)), durable=False)


def say(share: Share, ack: int | None, refused: int | None = None) -> None:
    write_atomic(share.guest / STATUS, encode(Status(GuestState.RUNNING, 1, ack, refused)), durable=False)


def test_a_guest_is_gone_from_its_answer_until_its_next_word(share: Share) -> None:
    word = LettingGo(share)
    assert "has not let go" in (word.held_back() or ""), "it has said nothing"
    order(share, 1, HostState.RUN)
    say(share, 1)
    assert "has not let go" in (word.held_back() or ""), "nobody has asked it to"
    order(share, 2, HostState.PREPARE)
    assert "has not let go" in (word.held_back() or ""), "it has not heard"
    say(share, 2)
    assert word.held_back() is None and word.held_back() is None
    say(share, 2)
    assert "has come back" in (word.held_back() or ""), "it says the same once more"
    order(share, 3, HostState.PREPARE)
    assert "has not let go" in (word.held_back() or "")
    say(share, 3)
    assert word.held_back() is None


def test_a_guest_that_cannot_let_go_is_believed(share: Share) -> None:
    word = LettingGo(share)
    order(share, 2, HostState.PREPARE)
    say(share, 2)
    assert word.held_back() is None
    say(share, 1, refused=2)
    assert "has not let go" in (word.held_back() or "")


@pytest.mark.parametrize("planted", ["garbage", "link", "pipe", "huge"])
def test_what_a_guest_plants_is_no_word(share: Share, planted: str) -> None:
    order(share, 2, HostState.PREPARE)
    status = share.guest / STATUS
    match planted:
        case "garbage":
            status.write_bytes(b"\xff\0")
        case "link":
            status.symlink_to(share.host / COMMAND)
        case "pipe":
            os.mkfifo(status)
        case "huge":
            status.write_bytes(b"a" * 100_000)
    assert "has not let go" in (LettingGo(share).held_back() or "")
