"""What a machine is told whose process is not ours."""

from __future__ import annotations

import asyncio

import pytest

from bridge.errors import CommandFailed
from bridge.hypervisors.foreign import tell


class Told:
    """A machine that lives for so many looks, and whether speaking to it fails."""

    def __init__(self, looks: int, *, fails: bool) -> None:
        self.looks = looks
        self.fails = fails
        self.said = 0

    def lives(self) -> bool:
        self.looks -= 1
        return self.looks >= 0

    async def say(self) -> None:
        self.said += 1
        if self.fails:
            raise CommandFailed("no answer")


def test_one_that_has_ended_is_not_told_anything() -> None:
    told = Told(0, fails=True)
    asyncio.run(tell(told.lives, told.say))
    assert told.said == 0


def test_one_that_ends_while_it_is_told_is_no_failure() -> None:
    told = Told(1, fails=True)
    asyncio.run(tell(told.lives, told.say))
    assert told.said == 1


def test_one_that_lives_must_hear() -> None:
    with pytest.raises(CommandFailed, match="no answer"):
        asyncio.run(tell(Told(2, fails=True).lives, Told(2, fails=True).say))
    told = Told(2, fails=False)
    asyncio.run(tell(told.lives, told.say))
    assert told.said == 1
