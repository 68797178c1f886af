"""Whether the guest says that it has let go of its share: for hypervisors that cannot tell.

A guest that obeys `prepare` says so and lets go in the same moment; when it is back it says the same once more (B13).
"""

from __future__ import annotations

import contextlib

from protocol.codec import decode
from protocol.errors import ProtocolError
from protocol.files import Door
from protocol.layout import COMMAND, STATUS, Share
from protocol.messages import Command, HostState, Status

_MOST_BYTES = 65_536

_Stamp = tuple[int, int, int]


class LettingGo:
    """One guest's word for its share."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._gone: tuple[int, _Stamp | None] | None = None

    def held_back(self) -> str | None:
        """Say what speaks against it that the guest has let go; None if nothing does.

        :raise OSError: the share cannot be read.
        """
        with Door(self._share.host) as host, Door(self._share.guest) as guest:
            command, stamp, status = _read(host, COMMAND), guest.stamp(STATUS), _read(guest, STATUS)
        if (
            not isinstance(command, Command)
            or not isinstance(status, Status)
            or command.state is not HostState.PREPARE
            or status.ack != command.seq
        ):
            return "the guest has not let go of its share"
        if self._gone is None or self._gone[0] != command.seq:
            self._gone = (command.seq, stamp)
        return None if self._gone[1] == stamp else "the guest has come back to its share"


def _read(door: Door, kind: str) -> object:
    with contextlib.suppress(ProtocolError):
        if (data := door.read(kind, _MOST_BYTES)) is not None:
            return decode(kind, data)
    return None
