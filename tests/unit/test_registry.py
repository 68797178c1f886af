"""Which backends there are, ours and other packages', and the order of choice."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.errors import HypervisorError, JobFileError, NotInstalled
from bridge.hypervisors import Hardware, MachineSpec, choose, is_third_party, load, third_parties
from bridge.hypervisors.qemu import Qemu
from bridge.image.bare import BareDisk
from bridge.job import read_job
from protocol.layout import Share

from ..conftest import REPOSITORY

VERBS = ["probe", "start", "pause", "resume", "wait", "stop", "remove", "examine"]
GOOD = "one_folder = False\n    needs_image = True\n" + "".join(f"    def {verb}(self): ...\n" for verb in VERBS)

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package as pip does, with a module and what it says of itself."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(package: str, source: str, *names: str) -> None:
        monkeypatch.delitem(sys.modules, package, raising=False)
        (tmp_path / f"{package}.py").write_text(source)
        about = tmp_path / f"{package}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        points = "".join(f"{name} = {package}:Machine\n" for name in names)
        (about / "entry_points.txt").write_text(f"[vmbridge.hypervisors]\n{points}")

    return install


def machine(programs: str = "()", body: str = GOOD) -> str:
    return f"class Machine:\n    programs = {programs}\n    {body}"


def job(directory: Path, hypervisor: str) -> Path:
    (directory / "job.xml").write_text(
        "<job_desc><task><virtualmachine>vm</virtualmachine><image>i</image><application>a</application>"
        f"<hypervisor>{hypervisor}</hypervisor></task></job_desc>"
    )
    return directory


def test_another_package_brings_a_backend(install: Install, tmp_path: Path) -> None:
    with pytest.raises(HypervisorError, match=r"'theirs' here\. Choose one of: qemu, .*plain$"):
        load("theirs")
    install("their_package", machine(), "theirs")
    assert is_third_party("theirs") and list(third_parties()) == ["theirs"]
    assert load("theirs").__module__ == "their_package"
    assert choose("theirs", "qemu").__module__ == "their_package"
    with pytest.raises(HypervisorError, match=r"Choose one of: qemu, .*plain, theirs$"):
        load("their")
    assert read_job(job(tmp_path, "theirs")).machine_tasks[0].hypervisor == "theirs"
    with pytest.raises(JobFileError, match="'their' is not known here"):
        read_job(job(tmp_path, "their"))


def test_our_names_are_ours(install: Install) -> None:
    install("their_package", machine(), "qemu", "local")
    assert load("qemu") is Qemu and not is_third_party("qemu") and not third_parties()


def test_of_two_with_one_name_it_is_always_the_same(install: Install) -> None:
    install("b_package", machine(), "theirs")
    install("a_package", machine(), "theirs")
    assert load("theirs").__module__ == "a_package"


def test_one_that_is_broken_is_named_and_is_in_nobodys_way(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("a_package", "import does_not_exist\n", "first")
    install("b_package", machine(body="one_folder = False"), "second")
    install("c_package", machine("('theirs',)"), "third")
    with pytest.raises(HypervisorError, match=r"'first' \(a_package:Machine\) cannot be loaded: ModuleNotFoundError"):
        load("first")
    with pytest.raises(HypervisorError, match=r"'second' .* is no hypervisor of this bridge: it has no probe, .*image"):
        load("second")
    found = choose(None, None, lambda program: program if program == "theirs" else None)
    assert found.__module__ == "c_package"
    assert "does_not_exist" in caplog.text and "'second'" in caplog.text


def test_another_package_is_detected_by_its_programs_after_ours(install: Install) -> None:
    install("their_package", machine("('theirs',)"), "theirs")
    assert choose(None, None, str) is Qemu
    with pytest.raises(NotInstalled):
        choose(None, None, lambda program: None)
    assert choose(None, None, lambda program: program if program == "theirs" else None).__module__ == "their_package"


def test_what_starts_no_machine_is_chosen_by_a_person_alone(install: Install) -> None:
    install("their_package", machine("('theirs',)", GOOD.replace("image = True", "image = False")), "theirs")
    assert choose("theirs", None).__module__ == "their_package"
    with pytest.raises(HypervisorError, match=r"'theirs' starts no machine, so only a person may choose it"):
        choose(None, "theirs")
    with pytest.raises(NotInstalled):
        choose(None, None, lambda program: program if program == "theirs" else None)


def test_nobody_is_asked_while_ours_serve() -> None:
    """Reading what all installed packages say of themselves takes longer than the bridge's whole start."""
    asked = "import sys; import bridge.for_client, bridge.hypervisors as h; h.choose(None, 'qemu'); h.load('local')"
    subprocess.run(
        [sys.executable, "-c", f"{asked}; assert 'importlib.metadata' not in sys.modules"], cwd=REPOSITORY, check=True
    )


@pytest.mark.parametrize("name", ["libvirt", "virtualbox", "vmware"])
def test_a_folder_whose_name_cannot_be_written_down_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """It used to be a bug of ours: a UnicodeEncodeError. QEMU is told by bytes, and runs there."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    share = Share.one_folder(folder / "shared")
    image = BareDisk(tmp_path / "disk.vmdk", "vmdk", "digest")
    machine = load(name)(
        MachineSpec("test", folder / "machine", share, image, 256, 1, hardware=Hardware("sata", "e1000", ()))
    )
    with pytest.raises(HypervisorError, match=r"caf\\udce9/machine is not UTF-8\. Rename it, or choose qemu"):
        asyncio.run(machine.probe())
