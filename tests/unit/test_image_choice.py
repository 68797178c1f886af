"""Which of a job's images is taken, and what is said when none can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import Hindered, ImageError
from bridge.hypervisors import HOST_ARCH
from bridge.hypervisors.qemu import Qemu
from bridge.image import Image, ImageMissing
from bridge.image.bare import BareDisk
from bridge.image.choice import choose_image
from bridge.verdict import TemporaryExit, verdict_on


def image(name: str, arch: str = "x86_64", disk_format: str = "qcow2") -> Image:
    return Image(arch, Path(name), Path(), Path("work"), "", True, name, disk_format)


HERE = {
    "riscv": image("riscv", arch="riscv64"),
    "vdi": image("vdi", disk_format="vdi"),
    "tiny": image("tiny"),
    "other": image("other"),
}


def load(path: Path) -> Image:
    if path.name == "broken":
        raise ImageError("image broken is not JSON")
    if path.name not in HERE:
        raise ImageMissing(f"image {path} not found")
    return HERE[path.name]


def chosen(*names: str) -> str:
    return choose_image([Path(name) for name in names], load, Qemu.refuses).digest


@pytest.mark.parametrize(
    ("expected", "names"),
    [
        ("tiny", ("tiny",)),
        ("tiny", ("tiny", "other")),
        ("other", ("other", "tiny")),
        ("tiny", ("riscv", "tiny")),
        ("tiny", ("not_shipped", "tiny")),
        ("vdi", ("vdi", "tiny")),  # QEMU boots it as it is
        ("tiny", ("tiny", "broken")),  # nobody looks at it
    ],
)
def test_the_first_that_is_there_and_can_be_booted(expected: str, names: tuple[str, ...]) -> None:
    assert chosen(*names) == expected


def test_a_hypervisor_that_takes_no_disk_of_another() -> None:
    taken = choose_image(
        [Path("vdi"), Path("tiny")],
        load,
        lambda image: f"it is {image.work_disk_format}" if image.digest == "vdi" else None,
    )
    assert taken.digest == "tiny"


def test_none_that_can_be_booted(caplog: pytest.LogCaptureFixture) -> None:
    """A matter for a person: no waiting makes an image another one, and it is no fault of the job."""
    with pytest.raises(Hindered) as raised:
        chosen("riscv", "not_shipped")
    assert verdict_on(raised.value) == TemporaryExit(
        3600.0,
        "No image of the job can be booted here: it is for riscv64, and QEMU here boots x86_64, aarch64. Images are "
        "never converted: install a hypervisor that boots it, or tell the project.",
        notice=True,
    )
    assert "the image riscv cannot be booted here: it is for riscv64" in caplog.text


def test_an_emulator_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one for this computer's own architecture is what QEMU is found by, and the probe tells that it is missing."""
    native, foreign = ("aarch64", "x86_64") if HOST_ARCH == "aarch64" else ("x86_64", "aarch64")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Qemu.refuses(image("own", arch=native)) is None
    package = {"aarch64": "qemu-system-arm", "x86_64": "qemu-system-x86"}[foreign]
    said = f"it is for {foreign}, and qemu-system-{foreign} is not in PATH (Debian: {package})"
    assert Qemu.refuses(image("other", arch=foreign)) == said
    (tmp_path / f"qemu-system-{foreign}").touch(0o755)
    assert Qemu.refuses(image("other", arch=foreign)) is None


def test_none_that_is_there() -> None:
    with pytest.raises(ImageMissing, match=r"^image no1 not found$"):
        chosen("no1")
    with pytest.raises(ImageMissing, match=r"none of the job's images is there: no1, no2\. Build one with: vmb"):
        chosen("no1", "no2")


def test_a_broken_one_is_not_passed_over() -> None:
    """It would be found out on those computers only whose hypervisor wants it."""
    with pytest.raises(ImageError, match="is not JSON"):
        chosen("riscv", "broken", "tiny")


def test_qemu_and_bare_disks() -> None:
    assert Qemu.refuses(BareDisk(Path("vm_image.vdi"), "vdi", "digest")) is None
