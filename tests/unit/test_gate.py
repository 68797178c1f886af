"""The gate in a machine's way out: which frames may pass, and how they do."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.hypervisors.qemu import gate
from bridge.hypervisors.qemu.frames import is_public, may_go_out
from bridge.hypervisors.qemu.gate import Gate, OwnAddresses, is_own_address

TCP, UDP, ICMP = 6, 17, 1
PUBLIC = "93.184.216.34"


def number(address: str) -> int:
    return int(ipaddress.IPv4Address(address))


def frame(
    to: str, protocol: int = TCP, port: int = 80, *, kind: int = 0x0800, fragment: int = 0, options: int = 0
) -> bytes:
    """An Ethernet frame with an IPv4 packet that asks for `to`; `fragment` is the word with flags and offset."""
    words = 5 + options
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x40 | words, 0, words * 4 + 8, 1, fragment, 64, protocol, 0, bytes(4), socket.inet_aton(to)
    )
    return bytes(12) + kind.to_bytes(2, "big") + header + bytes(options * 4) + struct.pack(">HHI", 40000, port, 0)


def passes(data: bytes, *own: str) -> bool:
    return may_go_out(data, lambda address: address in map(number, own))


def test_public_addresses_may_be_asked_for_by_any_protocol() -> None:
    for protocol in (TCP, UDP, ICMP):
        for fragment in (0, 0x4000, 0x2000, 7):
            assert passes(frame(PUBLIC, protocol, 31416, fragment=fragment))
    assert passes(bytes(12) + b"\x08\x06" + bytes(28)), "ARP, by which the guest finds the gateway"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.255", "0.0.0.0", "0.1.2.3", "10.0.2.2", "10.0.2.4", "10.0.2.15", "10.9.8.7"),
        *("172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.64.0.1", "100.127.255.255"),
        *("192.0.0.8", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "192.88.99.1"),
        *("224.0.0.251", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    ],
)
def test_nothing_near_the_volunteers_computer_may(address: str) -> None:
    for protocol in (TCP, UDP, ICMP):
        for port in (31416, 22, 80, 53):
            assert not passes(frame(address, protocol, port))


@pytest.mark.parametrize("address", ["1.1.1.1", "9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", PUBLIC])
def test_their_neighbours_in_the_internet_are_no_less_public(address: str) -> None:
    assert is_public(number(address))


@given(st.integers(0, 2**32 - 1))
def test_public_is_not_more_than_what_python_holds_for_global(address: int) -> None:
    if is_public(address):
        known = ipaddress.IPv4Address(address)
        assert known.is_global and not known.is_multicast and not known.is_loopback


def test_a_public_address_of_the_hosts_own_may_not() -> None:
    assert not passes(frame(PUBLIC), PUBLIC)
    assert passes(frame("93.184.216.35"), PUBLIC)


def test_names_may_be_asked_for_and_nothing_else_of_the_resolver() -> None:
    """A resolver may be on the host's loopback, and what QEMU opens there is whatever port the guest names."""
    assert passes(frame("10.0.2.3", UDP, 53)) and passes(frame("10.0.2.3", TCP, 53, fragment=0x4000))
    assert passes(frame("10.0.2.3", UDP, 53, options=3))
    assert not passes(frame("10.0.2.3", UDP, 31416)) and not passes(frame("10.0.2.3", TCP, 31416))
    assert not passes(frame("10.0.2.3", ICMP, 53))


@pytest.mark.parametrize("fragment", [0x2000, 1, 0x8000, 0xFFFF])
def test_a_fragment_does_not_show_its_port(fragment: int) -> None:
    assert not passes(frame("10.0.2.3", UDP, 53, fragment=fragment))


@pytest.mark.parametrize("words", range(5))
def test_a_header_that_is_too_short_to_be_one_shows_no_port(words: int) -> None:
    data = bytearray(frame("10.0.2.3", UDP, 53))
    data[14] = 0x40 | words
    assert not passes(bytes(data))


def test_an_address_may_be_asked_for() -> None:
    assert passes(frame("255.255.255.255", UDP, 67)) and passes(frame("10.0.2.2", UDP, 67))
    assert not passes(frame("10.0.2.2", TCP, 67)), "DHCP is no TCP, and TCP goes to the host"
    assert not passes(frame("10.0.2.2", UDP, 69))


@pytest.mark.parametrize("kind", [0x86DD, 0x8100, 0x88F8, 0x0801, 0, 1500])
def test_frames_of_other_kinds_may_not(kind: int) -> None:
    """IPv6, tags, QEMU's own NC-SI."""
    assert not passes(frame(PUBLIC, kind=kind))


@given(st.binary(max_size=80))
def test_no_bytes_at_all_break_it(data: bytes) -> None:
    may_go_out(data, lambda address: False)
    may_go_out(bytes(12) + b"\x08\x00" + data, lambda address: False)


def test_a_short_frame_may_not() -> None:
    for length in range(len(frame(PUBLIC)) - 8):
        assert not passes(frame(PUBLIC)[:length])


# --- the gate itself ---


def written(*frames: bytes) -> bytes:
    """Frames as QEMU writes them."""
    return b"".join(len(one).to_bytes(4, "big") + one for one in frames)


def at_gate(body: Callable[[Gate, socket.socket, socket.socket], Coroutine[Any, Any, None]]) -> None:
    """Run `body` with an open gate and QEMU's ends of it."""

    async def go() -> None:
        found = Gate(lambda address: False)
        card, network = found.card.dup(), found.network.dup()
        with card, network:
            card.setblocking(False)
            network.setblocking(False)
            found.open()
            try:
                await body(found, card, network)
            finally:
                found.close()
                found.close()

    asyncio.run(asyncio.wait_for(go(), 60))


async def arrives(network: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await asyncio.get_running_loop().sock_recv(network, 65_536)
    return data


def test_what_may_go_out_comes_through_as_it_was_and_the_rest_does_not() -> None:
    good, other, bad = frame(PUBLIC), frame("1.1.1.1", UDP, 123), frame("10.0.2.2", TCP, 31416)

    async def body(gate: Gate, card: socket.socket, network: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(card, written(bad, good, bad, other, bad))
        expected = written(good, other)
        assert await arrives(network, len(expected)) == expected
        for byte in written(bad, other):
            await loop.sock_sendall(card, bytes([byte]))
        assert await arrives(network, len(written(other))) == written(other)

    at_gate(body)


def test_frames_are_dropped_when_qemu_does_not_take_them_and_never_waited_for() -> None:
    """QEMU waits for us to take what it sends. If we waited for it too, its machine would stand still for ever."""
    good = frame(PUBLIC).ljust(1514, b"\0")

    async def body(found: Gate, card: socket.socket, network: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(2000):
            await loop.sock_sendall(card, written(good))
        assert len(found._backlog) <= gate._BACKLOG_BYTES + gate._READ_BYTES
        got = b""
        mark = written(frame("1.1.1.1"))
        while not got.endswith(mark):
            await loop.sock_sendall(card, mark)
            got += await loop.sock_recv(network, 1 << 20)
        whole = got[: got.index(mark)]
        assert whole == written(good) * (len(whole) // len(written(good))), "no frame is cut in two"

    at_gate(body)


def test_what_qemu_never_writes_closes_the_gate() -> None:
    async def body(found: Gate, card: socket.socket, network: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(card, b"\xff" * 8)
        assert await loop.sock_recv(network, 1) == b"", "closed"

    at_gate(body)


def test_the_gate_closes_when_qemu_ends() -> None:
    async def body(found: Gate, card: socket.socket, network: socket.socket) -> None:
        card.close()
        assert await asyncio.get_running_loop().sock_recv(network, 1) == b"", "closed"

    at_gate(body)


# --- the host's own addresses ---


def test_the_kernel_knows_its_own_addresses() -> None:
    assert is_own_address(number("127.0.0.1"))
    assert not is_own_address(number("93.184.216.34"))


def test_an_answer_counts_for_some_seconds_and_not_for_ever() -> None:
    asked: list[int] = []
    now = [time.monotonic()]

    def ask(address: int) -> bool:
        asked.append(address)
        return len(asked) > 1

    own = OwnAddresses(ask, lambda: now[0])
    assert not own(7) and not own(7) and asked == [7]
    now[0] += gate._KNOWN_FOR_S
    assert own(7), "it has become one"
    for address in range(2 * gate._MOST_KNOWN):
        own(address)
    assert len(own._known) <= gate._MOST_KNOWN
