"""What libvirt is told, which libvirt it may be, and how its module's calls are waited for."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from bridge.errors import CommandFailed, HypervisorError, NotInstalled
from bridge.hypervisors import DISK_CONTROLLERS, NETWORK_CARDS, Hardware, MachineSpec
from bridge.hypervisors.libvirt import Libvirt
from bridge.hypervisors.libvirt.binding import call, load
from bridge.hypervisors.libvirt.domain import QEMU_NAMESPACE, Owner, disk_name, domain, domain_name, machine_id
from bridge.hypervisors.libvirt.monitor import Monitor, hands_over
from bridge.hypervisors.libvirt.uri import is_session, refuse_elsewhere
from bridge.hypervisors.qemu.command_line import Accelerated
from bridge.hypervisors.qemu.gate import Gate
from bridge.image.bare import BareDisk
from protocol.layout import Share

from .test_qemu import IMAGE, SPEC, TCG

KVM = Accelerated(Path("/usr/libexec/qemu-kvm"), "9.1.0", "kvm")


def told(
    spec: MachineSpec = SPEC, qemu: Accelerated = TCG, owner: Owner | None = None, tag: str | None = None
) -> Element:
    work_disk = Path("/slot/machine/work.qcow2")
    return ElementTree.fromstring(
        domain(spec, qemu, work_disk=work_disk, owner=owner, firmware=Path("/f/qboot.rom"), from_tag=tag)
    )


def test_the_machine_is_the_one_that_qemu_runs() -> None:
    found = told()
    assert found.get("type") == "qemu" and found.findtext("cpu/model") == "Nehalem"
    assert found.findtext("memory") == str(SPEC.memory_mb) and found.findtext("vcpu") == str(SPEC.cpus)
    assert found.findtext("os/kernel") == str(IMAGE.kernel) and found.findtext("os/cmdline") == IMAGE.cmdline
    assert found.findtext("os/loader") == "/f/qboot.rom"
    assert found.findtext("on_reboot") == "destroy", "a panic is an end"
    assert found.find("devices/interface") is None and found.find("devices/graphics") is None
    kvm = told(qemu=KVM)
    assert kvm.get("type") == "kvm" and kvm.find("cpu[@mode='host-passthrough']") is not None
    assert kvm.findtext("devices/emulator") == "/usr/libexec/qemu-kvm" and kvm.find("features/tcg") is None


def test_the_guest_is_told_how_fast_its_clock_runs() -> None:
    work_disk = Path("/slot/machine/work.qcow2")
    xml = domain(SPEC, TCG, work_disk=work_disk, owner=None, firmware=None, tsc_khz=2_000_000)
    assert ElementTree.fromstring(xml).findtext("os/cmdline") == f"{IMAGE.cmdline} tsc_early_khz=2000000"


def test_the_host_s_export_cannot_be_written() -> None:
    exports = told().findall("devices/filesystem")
    tags = {export.find("target").get("dir"): export.find("readonly") is not None for export in exports}  # type: ignore[union-attr]
    assert tags == {"vmbridge_host": True, "vmbridge_guest": False}
    assert all(export.get("accessmode") == "mapped" for export in exports), "a planted link is a plain file here"


def test_names_with_markup_stay_names() -> None:
    share = Share.two_folders(Path("/slot<1>&'\"/shared"))
    found = told(replace(SPEC, share=share, name="</description><x/>"))
    assert found.find("devices/filesystem/source").get("dir") == "/slot<1>&'\"/shared/host"  # type: ignore[union-attr]
    assert found.find("x") is None


def test_no_file_changes_hands() -> None:
    assert told().find("seclabel") is None
    label = told(owner=Owner(1000, 100)).find("seclabel")
    assert label is not None and label.get("relabel") == "no" and label.findtext("label") == "+1000:+100"


def words(found: Element) -> list[str | None]:
    """What is told to QEMU in its own words."""
    return [word.get("value") for word in found.findall(f"{{{QEMU_NAMESPACE}}}commandline/{{{QEMU_NAMESPACE}}}arg")]


def test_a_restored_machine_loads_its_state() -> None:
    assert words(told()) == [] and words(told(tag="checkpoint-3")) == ["-loadvm", "checkpoint-3"]


@pytest.mark.parametrize("card", NETWORK_CARDS)
def test_a_network_card_has_no_way_out_until_the_gate_is_there(card: str) -> None:
    image = BareDisk(Path("/p/vm_image.vdi"), "vdi", "digest")
    hardware = Hardware("sata", card, (("shared", Path("/slot/shared")),))
    ours = replace(SPEC, network=True)
    for spec, device in ((ours, "virtio-net-pci"), (replace(ours, image=image, hardware=hardware), card)):
        line = words(told(spec, tag="one"))
        assert "filter-redirector,id=wall,netdev=cable,queue=rx,outdev=wall" in line and "null,id=wall" in line
        assert any(f"{word}".startswith(device) and "netdev=cable" in f"{word}" for word in line)
        assert line[-2:] == ["-loadvm", "one"] and not any("hostfwd" in f"{word}" for word in line)


def test_a_state_goes_on_only_in_a_machine_with_the_same_card() -> None:
    def described(spec: MachineSpec) -> Mapping[str, str]:
        machine = Libvirt(spec)
        machine._found, machine._version = TCG, "9.0.0"  # as if they had been asked for
        return asyncio.run(machine.description())

    without = described(SPEC)
    assert without["libvirt"] == "9.0" and described(SPEC) == without
    assert described(replace(SPEC, network=True)) != without


class FakeLibvirtQemu:
    """libvirt's way to QEMU's monitor: notes what is sent there, and is what QEMU would then have."""

    def __init__(self) -> None:
        self.filters = {"wall"}
        self.sockets: dict[str, int] = {}
        self.seen: list[set[str]] = []
        self.refused = ""

    def qemuMonitorCommand(self, machine: object, words: str, flags: int) -> str:
        asked = json.loads(words)
        command, arguments = asked["execute"], asked.get("arguments", {})
        if command == self.refused:
            return json.dumps({"error": {"desc": "no"}})
        if command == "chardev-add":
            assert arguments["backend"]["data"]["addr"]["data"]["str"] in self.sockets
        if command == "object-add":
            self.filters.add(arguments["id"])
        if command == "object-del":
            self.filters.remove(arguments["id"])
        self.seen.append(set(self.filters))
        return json.dumps({"return": {}})

    def qemuMonitorCommandWithFiles(
        self, machine: object, words: str, files: list[int], flags: int
    ) -> tuple[str, list[int]]:
        self.sockets[json.loads(words)["arguments"]["fdname"]] = os.dup(files[0])
        return self.qemuMonitorCommand(machine, words, flags), []


def with_gate(body: Any) -> None:
    async def go() -> None:
        fake, gate = FakeLibvirtQemu(), Gate(lambda address: False)
        try:
            await body(fake, Monitor(fake, None, None), gate)
        finally:
            gate.close()
            for descriptor in fake.sockets.values():
                os.close(descriptor)

    asyncio.run(go())


def test_the_gate_takes_the_place_of_the_wall() -> None:
    async def body(fake: FakeLibvirtQemu, monitor: Monitor, gate: Gate) -> None:
        await monitor.build(gate)
        assert fake.filters == {"gate"} and all(fake.seen), "at no time there was neither"
        arp = bytes(12) + b"\x08\x06" + bytes(28)
        os.write(fake.sockets["from-card"], len(arp).to_bytes(4, "big") + arp)
        got = await asyncio.to_thread(os.read, fake.sockets["to-network"], 100)
        assert got[4:] == arp, "these are its sockets"

    with_gate(body)


@pytest.mark.parametrize("refused", ["getfd", "chardev-add", "object-add", "object-del"])
def test_a_gate_that_cannot_be_built_leaves_the_wall(refused: str) -> None:
    async def body(fake: FakeLibvirtQemu, monitor: Monitor, gate: Gate) -> None:
        fake.refused = refused
        with pytest.raises(CommandFailed, match=f"QEMU failed at {refused}: no"):
            await monitor.build(gate)
        assert "wall" in fake.filters

    with_gate(body)


def test_a_libvirt_that_hands_over_no_sockets() -> None:
    """Ubuntu 22.04's, or one whose Python module is older than itself."""
    assert hands_over(FakeLibvirtQemu, "8.2.0") and hands_over(FakeLibvirtQemu, "10.0.0")
    assert not hands_over(FakeLibvirtQemu, "8.0.0") and not hands_over(SimpleNamespace(), "9.0.0")


def test_a_machine_that_was_left_behind_is_known_by_its_place() -> None:
    here, there = Path("/slots/0/machine"), Path("/slots/1/machine")
    assert machine_id(here) == machine_id(here) != machine_id(there)
    assert domain_name(machine_id(here)).startswith("vmbridge-")


@pytest.mark.parametrize("controller", DISK_CONTROLLERS)
def test_a_disk_that_boots_by_itself(controller: str) -> None:
    image = BareDisk(Path("/p/vm_image.vdi"), "vdi", "digest")
    hardware = Hardware(controller, "e1000", (("shared", Path("/slot/shared")), ("scratch", Path("/p/scratch"))))
    spec = replace(SPEC, image=image, hardware=hardware)
    found = told(spec)
    assert found.find("os/kernel") is None and found.findtext("on_reboot") == "restart"
    target = found.find("devices/disk/target")
    assert target is not None and target.get("dev") == disk_name(spec)
    assert [export.get("dir") for export in found.findall("devices/filesystem/target")] == ["shared", "scratch"]


@pytest.mark.parametrize(
    "uri", ["qemu:///system", "qemu:///session", "qemu+unix:///system", "qemu+unix:///system?socket=/run/x"]
)
def test_a_libvirt_of_this_computer(uri: str) -> None:
    refuse_elsewhere(uri)
    assert is_session(uri) == ("session" in uri)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("qemu+ssh://host/system", "is on another computer, and its machines cannot share a folder with this one"),
        ("qemu://host/system", "is on another computer"),
        ("qemu+ssh:///system", "is on another computer"),
        ("xen:///system", "runs no machines of QEMU's"),
        ("test:///default", "runs no machines of QEMU's"),
        ("vbox:///session", "runs no machines of QEMU's"),
    ],
)
def test_a_libvirt_that_will_not_do(uri: str, why: str) -> None:
    with pytest.raises(HypervisorError, match=f"{why}.*Set LIBVIRT_DEFAULT_URI to qemu:///system"):
        refuse_elsewhere(uri)


def test_the_module_is_looked_for_in_the_system(tmp_path: Path) -> None:
    """A virtual environment and a bundle do not see what a distribution has installed."""
    (tmp_path / "vmbridge_binding.py").write_text("answer = 42\n")
    assert load("vmbridge_binding", [str(tmp_path)]).answer == 42
    (tmp_path / "vmbridge_other.cpython-27-x86_64-linux-gnu.so").touch()
    with pytest.raises(NotInstalled, match=r"has no libvirt module\. Type: pip install libvirt-python"):
        load("vmbridge_other", [str(tmp_path)])


def test_a_call_that_hangs_is_not_waited_for() -> None:
    answered = threading.Event()

    def refuse() -> None:
        raise ValueError("too bad")

    async def go() -> None:
        assert await call("add", lambda a, b: a + b, 1, 2) == 3
        with pytest.raises(CommandFailed, match="libvirt failed at divide: too bad"):
            await call("divide", refuse)
        with pytest.raises(CommandFailed, match=r"has not answered in 0\.05 seconds \(hang\): its daemon hangs"):
            await call("hang", answered.wait, within_s=0.05)

    asyncio.run(go())
    answered.set()  # and the loop that asked is gone
