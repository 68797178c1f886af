"""Tell the guest what state it should be in, each time under a higher number."""

from __future__ import annotations

import time

from protocol.codec import encode
from protocol.files import write_atomic
from protocol.layout import COMMAND, Share
from protocol.messages import Command, HostState


class Commands:
    """The one writer of `command` in a share; `seq` is the number of the last one."""

    def __init__(self, share: Share, seq: int) -> None:
        self._file = share.host / COMMAND
        self.seq = seq

    def give(self, state: HostState, away: float | None = None) -> int:
        """Say that the guest should be in `state`, and what time it is; return the command's number.

        With PREPARE it is to stay `away` from its share for so many seconds at least.

        :raise OSError: it could not be written.
        """
        self.seq += 1
        write_atomic(self._file, encode(Command(self.seq, state, time.time(), away)), durable=False)
        return self.seq
