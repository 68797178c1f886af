"""A little world for tests of the network, from which no packet gets out: a host, its neighbour, and an internet.

`python -m tests.integration.island FOLDER COMMAND...` is started in a network and a mount namespace of its own and runs
COMMAND there, on the "host". That has a public address of its own and one in a local network, a program that listens on
port 31416 of all its addresses, as the BOINC client may, and a resolver on its loopback that knows one name. In another
namespace, beyond a cable, are a server in the internet and one in the local network, with a program on port 80 of
either. Both programs say hello and write down who came: in FOLDER's files `host` and `internet`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from ..patience import AT_MOST_S
from .conftest import ENVIRONMENT

HOST = "11.22.33.1"
SERVER = "11.22.33.2"
HOST_AT_HOME = "192.168.77.1"
NEIGHBOUR = "192.168.77.2"
HOST_IPV6 = "fd77::1"
NAME = "science.example"
HOST_LOG = "host"
INTERNET_LOG = "internet"
CONTROL_PORT = 31416
HELLO = b"hello from the other side\n"

ENTER = ["unshare", "--net", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net", "--mount"]
"""Starts a command in namespaces of its own, if that is allowed here."""


def possible() -> bool:
    """Say whether such a world can be made here."""
    trial = "ip link add a0 type veth peer name b0 && mount --bind /etc/hosts /etc/hosts"
    try:
        return subprocess.run([*ENTER, "sh", "-c", trial], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


WHY_NOT = "no network namespace may be made here, or there is no ip(8)"


def run(folder: Path, hypervisor: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the tests in `on_island.py` in a world of their own, with machines of `hypervisor`."""
    tests = [sys.executable, "-m", "pytest", "-x", *options, str(Path(__file__).with_name("on_island.py"))]
    return subprocess.run(
        [*ENTER, sys.executable, "-m", __name__, str(folder), *tests],
        env={**ENVIRONMENT, "ISLAND": str(folder), "ISLAND_HYPERVISOR": hypervisor},
        capture_output=True,
        text=True,
        check=False,
        timeout=10 * AT_MOST_S,
    )


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _listen(address: str, port: int, log: Path, *, ipv6: bool = False) -> None:
    """Say hello to whoever connects, and write it down."""
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        server = socket.socket(family, kind)
        if ipv6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        threading.Thread(target=_serve, args=(server, kind, log), daemon=True).start()


def _serve(server: socket.socket, kind: int, log: Path) -> None:
    if kind == socket.SOCK_STREAM:
        server.listen()
    while True:
        if kind == socket.SOCK_STREAM:
            connection, peer = server.accept()
            _note(log, f"connection from {peer[0]} to {connection.getsockname()[0]}")
            with connection:
                connection.sendall(HELLO)
        else:
            data, peer = server.recvfrom(65536)
            _note(log, f"datagram from {peer[0]}: {data!r}")
            server.sendto(HELLO, peer)


def _note(log: Path, line: str) -> None:
    with log.open("a") as opened:
        opened.write(line + "\n")


def _resolve() -> None:
    """Answer every question for an IPv4 address with the server's; of others say that there is nothing."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def answer() -> None:
        while True:
            query, peer = server.recvfrom(512)
            end = query.index(b"\0", 12) + 5  # after the name, its type and its class
            is_address = query[end - 4 : end - 2] == b"\0\1"
            header = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_address else b"\0\0") + b"\0\0\0\0"
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(SERVER) if is_address else b""
            server.sendto(header + query[12:end] + record, peer)

    threading.Thread(target=answer, daemon=True).start()


def _internet(log: Path) -> None:
    """The other end of the cable: tell that the namespace is there, and when the cable is, serve."""
    print("ready", flush=True)
    sys.stdin.readline()
    _ip("link", "set", "lo", "up")
    _ip("address", "add", f"{SERVER}/24", "dev", "b0")
    _ip("address", "add", f"{NEIGHBOUR}/24", "dev", "b0")
    _ip("link", "set", "b0", "up")
    _listen("0.0.0.0", 80, log)
    print("up", flush=True)
    signal.pause()


def main() -> int:
    """Make the world and run the command in it; returns its exit status."""
    if sys.argv[1] == "--internet":
        _internet(Path(sys.argv[2]))
    folder, command = Path(sys.argv[1]), sys.argv[2:]
    with subprocess.Popen(
        ["unshare", "--net", sys.executable, "-m", __spec__.name, "--internet", str(folder / INTERNET_LOG)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as internet:
        assert internet.stdin is not None and internet.stdout is not None
        try:
            internet.stdout.readline()
            _ip("link", "set", "lo", "up")
            _ip("link", "add", "a0", "type", "veth", "peer", "name", "b0")
            _ip("link", "set", "b0", "netns", str(internet.pid))
            _ip("address", "add", f"{HOST}/24", "dev", "a0")
            _ip("address", "add", f"{HOST_AT_HOME}/24", "dev", "a0")
            _ip("address", "add", f"{HOST_IPV6}/64", "dev", "a0", "nodad")
            _ip("link", "set", "a0", "up")
            _ip("route", "add", "default", "via", SERVER)
            internet.stdin.write("\n")
            internet.stdin.flush()
            internet.stdout.readline()
            _listen("0.0.0.0", CONTROL_PORT, folder / HOST_LOG)
            _listen("::", CONTROL_PORT, folder / HOST_LOG, ipv6=True)
            resolver = folder / "resolv.conf"
            resolver.write_text("nameserver 127.0.0.1\n")
            subprocess.run(["mount", "--bind", str(resolver), "/etc/resolv.conf"], check=True)
            _resolve()
            return subprocess.run(command, check=False).returncode
        finally:
            internet.kill()


if __name__ == "__main__":
    sys.exit(main())
