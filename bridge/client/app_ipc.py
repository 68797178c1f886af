"""The eight message channels between client and application, and what is said in them. Pure: works on any buffer.

Each channel is 1,024 bytes: a flag, then a text that ends with NUL. Whoever writes fills in the text and then sets the
flag; whoever reads takes the text and then clears it. There is no queue: a message that has not been read is never
written over, because a reader may be looking at it at this moment, and a torn `checkpoint_cpu_time` would be a
checkpoint that never was. (BOINC: lib/app_ipc.h; verified on clients 7.20.5 and 8.2.15.)
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass

CHANNEL_BYTES = 1024
CHANNELS = 8
SIZE = CHANNELS * CHANNEL_BYTES

TEXT_BYTES = 1000
"""What we write at most; the client's own bound is 1,022."""


class Channel:
    """One channel, from either side."""

    def __init__(self, memory: memoryview) -> None:
        assert len(memory) == CHANNEL_BYTES
        self._memory = memory

    @property
    def full(self) -> bool:
        """There is a message that has not been read."""
        return self._memory[0] != 0

    def send(self, text: str) -> bool:
        """Put a message in, or say False if the last one has not been read.

        :raise ValueError: the text is too long for a channel.
        """
        data = text.encode()
        if len(data) > TEXT_BYTES:
            raise ValueError(f"a message of {len(data):,} bytes does not fit into a channel")
        if self.full:
            return False
        self._memory[1 : len(data) + 2] = data + b"\0"
        self._memory[0] = 1
        return True

    def receive(self) -> bytes | None:
        """Take the message out; None if there is none."""
        if not self.full:
            return None
        data = bytes(self._memory[1:]).partition(b"\0")[0]
        self._memory[0] = 0
        return data


class AppIpc:
    """The channels by name, over `SIZE` bytes of shared memory."""

    def __init__(self, memory: memoryview) -> None:
        def channel(number: int) -> Channel:
            return Channel(memory[number * CHANNEL_BYTES : (number + 1) * CHANNEL_BYTES])

        self.flags: Callable[[], bytes] = memory[::CHANNEL_BYTES].tobytes
        """Returns the flags of all channels, by their numbers: not 0 where a message has not been read."""
        self.process_control_request = channel(0)
        self.graphics_reply = channel(3)
        self.heartbeat = channel(4)
        self.app_status = channel(5)
        self.trickle_up = channel(6)
        self.trickle_down = channel(7)


class Control(enum.Enum):
    """What the client orders."""

    SUSPEND = b"<suspend/>"
    RESUME = b"<resume/>"
    QUIT = b"<quit/>"
    ABORT = b"<abort/>"
    REREAD_APP_INFO = b"<reread_app_info/>"


def parse_control(message: bytes) -> list[Control]:
    """Return the orders in a message, in their order; what is not known is not obeyed."""
    found = [(message.find(order.value), order) for order in Control]
    return [order for at, order in sorted(found, key=lambda pair: pair[0]) if at >= 0]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What the client says once a second.

    `wss` is the job's memory as the client measured it and `max_wss` what it may have now, in bytes; 0 is unknown.
    """

    wss: float = 0.0
    max_wss: float = 0.0
    network_suspended: bool = False


def parse_heartbeat(message: bytes) -> Heartbeat:
    """Read a heartbeat. (The library of 7.20 looks for another tag than its client sends, so both are known.)"""
    suspended = b"<network_suspended/>" in message or b"<suspend_network/>" in message
    return Heartbeat(_number(message, b"wss"), _number(message, b"max_wss"), suspended)


def _number(message: bytes, tag: bytes) -> float:
    text = message.partition(b"<" + tag + b">")[2].partition(b"<")[0]
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0


@dataclass(frozen=True, slots=True)
class AppStatus:
    """How far the job is. CPU times are in seconds, `fpops` and `intops` operations so far, `wss` bytes of memory.

    Both CPU times stand in every message, because the client takes 0 for one that is missing. A fraction of 0 is not
    written: the client takes it for "not known". `other_pid` is a process that works for the job and does not descend
    from ours: the client counts what it uses as ours, and ends it when we have ended. None is none.
    """

    current_cpu_time: float
    checkpoint_cpu_time: float
    fraction_done: float | None = None
    fpops: float | None = None
    intops: float | None = None
    wss: float | None = None
    other_pid: int | None = None

    def encode(self) -> str:
        """Write the message, with a point in its numbers and without a space inside a tag."""
        fields = {
            "current_cpu_time": self.current_cpu_time,
            "checkpoint_cpu_time": self.checkpoint_cpu_time,
            "fraction_done": self.fraction_done or None,
            "fpops_cumulative": self.fpops,
            "intops_cumulative": self.intops,
            "wss": self.wss,
        }
        text = "".join(f"<{tag}>{value:.8e}</{tag}>\n" for tag, value in fields.items() if value is not None)
        return text if self.other_pid is None else f"{text}<other_pid>{self.other_pid}</other_pid>\n"
