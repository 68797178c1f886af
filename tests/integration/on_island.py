"""Machines with a network card, on the host of a little world (island.py); other tests run these there.

Those are `test_network.py` and, with machines of libvirt's, `test_libvirt.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ..standin import End
from .conftest import JobDirectory
from .island import CONTROL_PORT, HELLO, HOST, HOST_AT_HOME, HOST_IPV6, HOST_LOG, INTERNET_LOG, NAME, NEIGHBOUR, SERVER
from .slots import MakeSlot

MakeJob = Callable[..., JobDirectory]

WORLD = Path(os.environ["ISLAND"])
HYPERVISOR = os.environ["ISLAND_HYPERVISOR"]
NETWORK = "<enable_network/>"
STDOUT = "<stdout_filename>stdout.txt</stdout_filename>"


@pytest.fixture(autouse=True)
def island_of_the_hypervisor(request: pytest.FixtureRequest) -> None:
    """What runs the machines is on the island, too."""
    if HYPERVISOR == "libvirt":
        request.getfixturevalue("daemon")


CALLER = r"""
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM};
    char said[100];
    int with, error = getaddrinfo(argv[argc - 1], "80", &hints, &found);
    ssize_t got;
    if (error) { puts(gai_strerror(error)); return 0; }
    with = socket(found->ai_family, SOCK_STREAM, 0);
    if (connect(with, found->ai_addr, found->ai_addrlen) != 0) { perror("connect"); return 0; }
    while ((got = read(with, said, sizeof said)) > 0)
        fwrite(said, 1, (size_t)got, stdout);
    return 0;
}
"""


def log(name: str) -> list[str]:
    """Who came: to the program on the host, or to the servers beyond the cable."""
    file = WORLD / name
    return file.read_text().splitlines() if file.exists() else []


def test_static_programs_find_a_server_by_address_and_by_name(make_job: MakeJob) -> None:
    job = make_job(
        "busybox udhcpc -n -q -i eth0 -s /usr/bin/env 2>&1 | grep -o 'lease of 10.0.2.15 obtained'\n"
        f"chmod +x glibc musl; for caller in ./glibc ./musl; do $caller {SERVER}; $caller {NAME}; done",
        f"{NETWORK}{STDOUT}<copy_file_to_VM>glibc</copy_file_to_VM><copy_file_to_VM>musl</copy_file_to_VM>",
    )
    (job.path / "caller.c").write_text(CALLER)
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-Os"]
    for name, compiler in (("glibc", ["cc"]), ("musl", zig)):
        subprocess.run([*compiler, "-w", "-static", "-o", str(job.path / name), str(job.path / "caller.c")], check=True)
    done = job.run("--hypervisor", HYPERVISOR)
    assert done.returncode == 0, done.stderr
    lease, *hellos = (job.path / "stdout.txt").read_bytes().splitlines(keepends=True)
    assert lease == b"lease of 10.0.2.15 obtained\n", "other images ask for their address"
    assert hellos == [HELLO] * 4


HOSTILE = f"""
said() {{ for port in {CONTROL_PORT} 80; do
    busybox nc -w 2 $1 $port </dev/null | sed "s/^/$1 $port: /" &
    echo psst | busybox nc -u -w 2 $1 $port | sed "s/^/$1 $port: /" &
done; wait; }}
address() {{ for one in "$@"; do said $one & done; wait; }}
# As an ordinary program.
address 127.0.0.1 10.0.2.2 10.0.2.3 10.0.2.15 10.0.2.99 {HOST} {HOST_AT_HOME} {NEIGHBOUR} 255.255.255.255 224.0.0.1
# By IPv6, with an address as QEMU would give one.
ip -6 address add fec0::15/64 dev eth0
ip -6 route add default via fec0::2
address ::1 fec0::2 fec0::3 {HOST_IPV6} ::ffff:127.0.0.1 ::ffff:{HOST} fe80::2%eth0
# As root, who sends the host frames for the host's loopback.
echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
ip address flush dev lo
ip link set lo down
ip route flush table local
ip route add local 10.0.2.15 dev eth0 table local
ip route add 127.0.0.0/8 via 10.0.2.2
ip route get 127.0.0.1
address 127.0.0.1 127.0.0.53
busybox nc -w 9 {SERVER} 80 </dev/null
"""


def test_nothing_of_the_host_and_its_neighbours_can_be_reached(make_job: MakeJob) -> None:
    """QEMU's user networking alone lets a guest talk to whatever listens on the host's loopback."""
    applets = "".join(f'{name}() {{ busybox {name} "$@"; }}\n' for name in ("ip", "sed"))
    job = make_job(applets + HOSTILE, f"{NETWORK}{STDOUT}")
    done = job.run("--hypervisor", HYPERVISOR)
    assert done.returncode == 0, done.stderr
    route, *rest = (job.path / "stdout.txt").read_text().splitlines()
    assert route.startswith("127.0.0.1 via 10.0.2.2 dev eth0"), "the frames did go out"
    assert rest == [HELLO.decode().strip()], "all the time the internet was there, and nothing else"
    assert log(HOST_LOG) == []


CALLING = f"""
n=0
while :; do
    busybox timeout 5 busybox nc -w 1 {SERVER} 80 </dev/null  # a connection that is cut stalls for ever
    n=$((n + 1))
    echo "intops $n" > /tmp/creditreport.new
    mv /tmp/creditreport.new /tmp/creditreport
done
"""
ALLOWED, SUSPENDED = "<heartbeat/>", "<heartbeat/><network_suspended/>"


def test_the_client_cuts_the_network_and_gives_it_back_also_over_checkpoints(make_slot: MakeSlot, image: Path) -> None:
    slot = make_slot(CALLING, NETWORK, hypervisor=HYPERVISOR, image=image)

    def tries(more: int) -> None:
        """Wait until the guest has tried so often again."""
        least = (slot.task.intops_cumulative or 0.0) + more
        slot.until(lambda: (slot.task.intops_cumulative or 0.0) >= least, f"{least} tries")

    def is_cut() -> None:
        tries(2)  # one may have been under way
        calls = len(log(INTERNET_LOG))
        tries(2)
        assert len(log(INTERNET_LOG)) == calls

    def is_connected() -> None:
        calls = len(log(INTERNET_LOG))
        slot.until(lambda: len(log(INTERNET_LOG)) >= calls + 3, "calls")

    def again(heartbeat: str) -> None:
        slot.order("quit")
        assert slot.wait().end is End.LATER, slot.stderr()
        slot.heartbeat = heartbeat
        restored = slot.stderr().count("restored from")
        slot.run()
        slot.until(lambda: slot.stderr().count("restored from") == restored + 1, "a restored machine")

    slot.heartbeat = SUSPENDED
    slot.run()
    is_cut()
    slot.heartbeat = ALLOWED
    is_connected()
    words = ((one, " ".join(one.info["cmdline"] or ())) for one in psutil.process_iter(["cmdline"]))
    (machine,) = (one for one, said in words if "-netdev" in said and str(slot.slot) in said)  # whoever runs it
    listening = [one for one in machine.net_connections() if one.status == psutil.CONN_LISTEN]
    assert listening == [], "nobody can call the guest"
    slot.heartbeat = SUSPENDED
    slot.until(lambda: slot.stderr().count("the client suspends the network"), "the cut")
    is_cut()
    again(ALLOWED)  # from a state whose cable is out
    is_connected()
    again(SUSPENDED)  # from one whose cable is in
    is_cut()
    slot.order("abort")
    slot.wait()
