"""The gate in a machine's way out: takes each frame of its network card from QEMU, and gives back what may go out.

QEMU's `filter-redirector` sends what the card sends to one socket, and passes on to its network code what comes in by
another. So nothing that was not let through here ever gets there, whatever the guest does; and without the bridge
there is no way out. What comes in is an answer, and does not pass here.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import time
from collections.abc import Callable

from .frames import may_go_out

_LENGTH_BYTES = 4
_MOST_FRAME_BYTES = 69_632
"""QEMU's own limit (NET_BUFSIZE)."""

_READ_BYTES = 65_536
_BACKLOG_BYTES = 262_144
"""What may wait for QEMU to take it. More is dropped, as a network does: waiting for a QEMU that waits for us would
never end."""

_KNOWN_FOR_S = 5.0
_MOST_KNOWN = 4096


class Gate:
    """The gate of one machine. Its two sockets for QEMU are to be inherited; then `open`."""

    def __init__(self, is_own: Callable[[int], bool]) -> None:
        """`is_own` says whether a public address is one of this host's."""
        self._is_own = is_own
        self._from_card, self.card = socket.socketpair()
        self._to_network, self.network = socket.socketpair()
        for ours in (self._from_card, self._to_network):
            ours.setblocking(False)
        self._received = b""
        self._backlog = b""

    def open(self) -> None:
        """QEMU has inherited its ends: let frames through, in the running loop, until `close`."""
        self.card.close()
        self.network.close()
        asyncio.get_running_loop().add_reader(self._from_card, self._receive)

    def close(self) -> None:
        """Let nothing through any more. May be called again."""
        if self._from_card.fileno() >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._from_card)
            loop.remove_writer(self._to_network)
        for one in (self._from_card, self._to_network, self.card, self.network):
            one.close()

    def _receive(self) -> None:
        try:
            data = self._from_card.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # QEMU has ended
            self.close()
            return
        self._received += data
        through = b"".join(self._let_through())
        if through and len(self._backlog) <= _BACKLOG_BYTES:
            self._backlog += through
            self._send()

    def _let_through(self) -> list[bytes]:
        """Take the complete frames out of what was received, and return those that may go out, with their lengths."""
        at, end = 0, len(self._received)
        through = []
        while end - at >= _LENGTH_BYTES:
            length = int.from_bytes(self._received[at : at + _LENGTH_BYTES], "big")
            if length > _MOST_FRAME_BYTES:  # not what QEMU writes: nothing that follows can be understood
                self._received = b""
                self.close()
                return []
            if (until := at + _LENGTH_BYTES + length) > end:
                break
            if may_go_out(self._received[at + _LENGTH_BYTES : until], self._is_own):
                through.append(self._received[at:until])
            at = until
        self._received = self._received[at:]
        return through

    def _send(self) -> None:
        try:
            sent = self._to_network.send(self._backlog)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._backlog = self._backlog[sent:]
        loop = asyncio.get_running_loop()
        if self._backlog:
            loop.add_writer(self._to_network, self._send)
        else:
            loop.remove_writer(self._to_network)


class OwnAddresses:
    """Says whether an address is one of this host's, by asking the kernel; an answer counts for some seconds.

    A host with a public address would otherwise let its guest in as if it were itself, behind its own firewall.
    """

    def __init__(self, ask: Callable[[int], bool] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask or is_own_address
        self._clock = clock
        self._known: dict[int, tuple[bool, float]] = {}

    def __call__(self, address: int) -> bool:
        now = self._clock()
        own, until = self._known.get(address, (True, now))
        if until <= now:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            own = self._ask(address)
            self._known[address] = own, now + _KNOWN_FOR_S
        return own


def is_own_address(address: int) -> bool:
    """Ask the kernel: it lets nobody bind a socket to an address of somebody else. Anything unclear counts as own."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ipaddress.IPv4Address(address)), 0))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True
