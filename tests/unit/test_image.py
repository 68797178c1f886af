"""The image's pure parts on real bytes, and what is said about an image that is not as it should be."""

from __future__ import annotations

import hashlib
import json
import lzma
import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import ImageError, NotInstalled
from bridge.image import Image, cpio, debian, load_image, modules, tools
from bridge.image.boot_cd import configuration
from bridge.image.build import build_image
from bridge.image.disk import number_by_content, renumbered
from bridge.image.elf import ENOUGH, UNKNOWN_INTERPRETER, needs_interpreter
from bridge.image.kernel import decompress, plain

# --- image.json ---

GOOD: dict[str, Any] = {
    "format": "vmbridge-image 1",
    "kind": "boot",
    "arch": "x86_64",
    "kernel": "vmlinux",
    "initramfs": "initramfs.cpio",
    "work_disk": "work.qcow2",
    "cmdline": "quiet",
    "static_programs_only": True,
    "sha256": dict.fromkeys(("vmlinux", "initramfs.cpio", "work.qcow2"), hashlib.sha256(b"").hexdigest()),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("vmlinux", "initramfs.cpio", "work.qcow2"):
        (tmp_path / name).touch()
    (tmp_path / "image.json").write_text(json.dumps(GOOD))
    return tmp_path


def write(folder: Path, **changes: object) -> None:
    (folder / "image.json").write_text(json.dumps({**GOOD, **changes}))


@pytest.mark.parametrize("name", [".", "image.json"])
def test_an_image_is_named_by_its_folder_or_its_manifest(folder: Path, name: str) -> None:
    digest = hashlib.sha256(json.dumps(GOOD).encode()).hexdigest()
    assert load_image(folder / name) == Image(
        "x86_64", folder / "vmlinux", folder / "initramfs.cpio", folder / "work.qcow2", "quiet", True, digest
    )


def test_two_images_with_other_files_have_other_digests_though_no_file_is_read(folder: Path) -> None:
    one = load_image(folder)
    write(folder, sha256={**GOOD["sha256"], "work.qcow2": "3" * 64})
    other = load_image(folder)
    assert one.digest != other.digest


def test_the_disk_of_another_hypervisor(folder: Path) -> None:
    write(folder, work_disk_format="vdi")
    assert load_image(folder).work_disk_format == "vdi"


def test_a_boot_cd_is_one_of_its_files(folder: Path) -> None:
    assert load_image(folder).boot_cd is None
    (folder / "boot.iso").touch()
    write(folder, boot_cd="boot.iso", sha256={**GOOD["sha256"], "boot.iso": "3" * 64})
    image = load_image(folder)
    assert image.boot_cd == folder / "boot.iso"
    assert [file.name for file in image.files] == ["vmlinux", "initramfs.cpio", "work.qcow2", "boot.iso"]


def test_what_a_later_writer_adds_is_ignored_and_a_work_disk_is_not_required(folder: Path) -> None:
    write(folder, work_disk=None, colour="green")
    assert load_image(folder).work_disk is None


def test_a_missing_image_says_how_to_build_one(tmp_path: Path) -> None:
    missing = tmp_path / "images" / "tiny"
    with pytest.raises(ImageError) as caught:
        load_image(missing)
    assert str(caught.value) == f"image {missing} not found. Build one with: vmbridge image build {missing}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "vmbridge-image 2"}, "\"format\" is 'vmbridge-image 2'. This bridge knows 'vmbridge-image 1'"),
        ({"format": None}, '"format" is None, not a text'),
        ({"kind": "disk"}, "\"kind\" is 'disk'. This bridge starts 'boot'"),
        ({"arch": "../x"}, '"arch" is'),
        ({"kernel": "../vmlinux"}, "\"kernel\" is '../vmlinux', not the name of a file beside it"),
        ({"kernel": ""}, '"kernel" is'),
        ({"kernel": "vmlinux\0"}, '"kernel" is'),
        ({"initramfs": 7}, '"initramfs" is 7, not a text'),
        ({"initramfs": "gone"}, "gone is missing from the image"),
        ({"work_disk": "gone"}, "gone is missing from the image"),
        ({"boot_cd": "gone"}, "gone is missing from the image"),
        ({"boot_cd": "work.qcow2", "sha256": {**GOOD["sha256"], "work.qcow2": ""}}, "no digest of work.qcow2"),
        ({"cmdline": ["quiet"]}, '"cmdline" is'),
        ({"sha256": None}, '"sha256" has no digest of vmlinux'),
        ({"sha256": {**GOOD["sha256"], "work.qcow2": "2"}}, '"sha256" has no digest of work.qcow2'),
        ({"work_disk_format": "raw"}, "\"work_disk_format\" is 'raw', not one of qcow2, vdi, vmdk"),
        ({"static_programs_only": "no"}, "\"static_programs_only\" is 'no', not true or false"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_by_key(folder: Path, changes: dict[str, object], said: str) -> None:
    write(folder, **changes)
    with pytest.raises(ImageError) as caught:
        load_image(folder)
    assert said in str(caught.value)
    assert f"vmbridge image build {folder}" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe", b"[" * 50_000, b" " * 2_000_000])
def test_a_manifest_of_any_bytes_is_an_image_error(folder: Path, content: bytes) -> None:
    (folder / "image.json").write_bytes(content)
    with pytest.raises(ImageError, match=r"image\.json"):
        load_image(folder)


# --- elf.py ---


def elf(bits: int, order: str, interpreter: bytes | None, *, at: int = 0x200) -> bytes:
    """A minimal ELF file with two program headers, the second of them PT_INTERP if asked for."""
    kind, text = (3, interpreter) if interpreter is not None else (4, b"")
    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    if bits == 64:
        header = struct.pack(order + "HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
        load = struct.pack(order + "IIQQQQQQ", 1, 5, 0, 0, 0, 0, 0, 0)
        second = struct.pack(order + "IIQQQQQQ", kind, 4, at, 0, 0, len(text), len(text), 1)
    else:
        header = struct.pack(order + "HHIIIIIHHHHHH", 2, 3, 1, 0, 52, 0, 0, 52, 32, 2, 0, 0, 0)
        load = struct.pack(order + "IIIIIIII", 1, 0, 0, 0, 0, 0, 5, 0)
        second = struct.pack(order + "IIIIIIII", kind, at, 0, 0, len(text), len(text), 4, 1)
    return (ident + header + load + second).ljust(at, b"\0") + text


LINKER = b"/lib64/ld-linux-x86-64.so.2\0"
BOTH_CLASSES_AND_ORDERS = [(64, "<"), (64, ">"), (32, "<"), (32, ">")]


@pytest.mark.parametrize(("bits", "order"), BOTH_CLASSES_AND_ORDERS)
def test_the_dynamic_linker_is_found_in_every_class_and_byte_order(bits: int, order: str) -> None:
    assert needs_interpreter(elf(bits, order, LINKER)) == "/lib64/ld-linux-x86-64.so.2"
    assert needs_interpreter(elf(bits, order, None)) is None


def test_a_real_program_is_dynamic() -> None:
    with Path("/bin/ls").open("rb") as file:
        assert "ld" in (needs_interpreter(file.read(ENOUGH)) or "")


@pytest.mark.parametrize("content", [b"", b"\x7f", b"\x7fELF", b"\x7fELF\x02\x01", b"#!/bin/sh\n", b"MZ", b"\0" * 64])
def test_what_is_no_elf_program_needs_none(content: bytes) -> None:
    assert needs_interpreter(content) is None


def test_a_name_outside_of_the_bytes_given_is_unknown_not_absent() -> None:
    assert needs_interpreter(elf(64, "<", LINKER, at=0x1000)[:0x400]) == UNKNOWN_INTERPRETER
    assert needs_interpreter(elf(64, "<", b"")) == UNKNOWN_INTERPRETER


def test_a_name_that_would_write_to_the_terminal_comes_escaped() -> None:
    assert needs_interpreter(elf(64, "<", b"/\x1b[2J\xff\n\0")) == r"/\x1b[2J\xff\n"


@pytest.mark.parametrize(("bits", "order"), BOTH_CLASSES_AND_ORDERS)
def test_every_truncation_of_a_program_is_harmless(bits: int, order: str) -> None:
    whole = elf(bits, order, LINKER)
    for length in range(len(whole)):
        assert needs_interpreter(whole[:length]) in (None, UNKNOWN_INTERPRETER)


@pytest.mark.parametrize(("bits", "order"), BOTH_CLASSES_AND_ORDERS)
def test_any_bytes_in_the_headers_are_harmless(bits: int, order: str) -> None:
    dice = random.Random(bits)
    whole = elf(bits, order, LINKER)
    for _ in range(2_000):
        hostile = bytearray(whole)
        for _ in range(dice.randrange(1, 12)):
            hostile[dice.randrange(4, 0xB0)] = dice.choice([0, 1, 2, 3, 0x7F, 0x80, 0xFF])
        found = needs_interpreter(bytes(hostile))
        assert found is None or (found.isascii() and found.isprintable())


def test_the_largest_table_ends_with_the_bytes() -> None:
    hostile = bytearray(elf(64, "<", None))
    hostile[54:58] = b"\xff\xff\xff\xff"  # 65,535 entries of 65,535 bytes
    assert needs_interpreter(bytes(hostile)) is None
    hostile[32:40] = b"\xff" * 8  # a table at the end of all addresses
    assert needs_interpreter(bytes(hostile)) is None


# --- cpio.py ---


def test_the_same_entries_in_any_order_are_the_same_bytes() -> None:
    entries = [cpio.file("init", b"1", executable=True), cpio.file("a/b/c", b"12345"), cpio.symlink("bin/sh", "x")]
    assert cpio.archive(entries) == cpio.archive(reversed(entries))


def test_an_archive_is_what_the_format_says() -> None:
    record, trailer = cpio.archive([cpio.file("init", b"hello", executable=True)]).split(b"hello\0\0\0")
    fields = [int(record[at : at + 8], 16) for at in range(6, 110, 8)]
    assert record[:6] == b"070701"
    assert fields == [1, 0o100755, 0, 0, 1, 0, 5, 0, 0, 0, 0, 5, 0]
    assert record[110:] == b"init\0\0"
    assert trailer[:6] == b"070701" and trailer[110:] == b"TRAILER!!!\0\0\0\0"


def test_folders_come_before_what_is_in_them() -> None:
    data = cpio.archive([cpio.file("a/b/c", b"")])
    assert data.index(b"a\0") < data.index(b"a/b\0") < data.index(b"a/b/c\0")


@pytest.mark.parametrize("path", ["", "/init", "a//b", "a/../b", "./a", "a/"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="plain relative path"):
        cpio.archive([cpio.file(path, b"")])


def test_a_path_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        cpio.archive([cpio.file("a", b"1"), cpio.symlink("a", "b")])


# --- kernel.py ---


def vmlinuz(payload: bytes) -> bytes:
    image = bytearray(1024)
    image[0x1F1] = 1  # one sector of setup code: the protected-mode part begins at 1024
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 16, len(payload))
    return bytes(image) + bytes(16) + payload + b"what follows the payload"


def test_the_kernel_comes_out_of_its_wrapping() -> None:
    kernel = b"\x7fELF" + bytes(range(256)) * 64
    assert decompress(vmlinuz(lzma.compress(kernel) + struct.pack("<I", len(kernel)))) == kernel


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a Linux kernel"),
        (bytes(4096), "not a Linux kernel"),
        (vmlinuz(b"")[:0x24C], "not a Linux kernel"),
        (vmlinuz(b"\x28\xb5\x2f\xfd zstd"), "not compressed with xz"),
        (vmlinuz(lzma.compress(b"\x7fELF" * 99)[:-40] + bytes(40)), "broken"),
        (vmlinuz(lzma.compress(b"MZ")), "no ELF file"),
    ],
)
def test_what_is_no_such_kernel_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decompress(content)


def test_a_kernel_for_aarch64_is_taken_as_it_is() -> None:
    kernel = bytes(0x38) + b"ARM\x64" + bytes(99)
    assert plain(kernel, "aarch64") == kernel
    for other in (b"", b"\x1f\x8b gzip", vmlinuz(lzma.compress(b"\x7fELF"))):
        with pytest.raises(ValueError, match="not an uncompressed Linux kernel for aarch64"):
            plain(other, "aarch64")


# --- boot_cd.py ---


def test_a_boot_cd_starts_its_only_entry_and_never_anew() -> None:
    """`panic=-1`, by which QEMU ends, is a machine that begins anew elsewhere; of two such words the last counts."""
    lines = configuration("quiet panic=-1 console=ttyS0").splitlines()
    assert lines[:3] == ["serial 0 115200", "default linux", "prompt 0"]
    assert lines[-1] == " append quiet panic=-1 console=ttyS0 panic=0"


def test_a_cd_is_for_a_pc(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a boot CD is for x86_64\. For aarch64 leave out --boot-cd"):
        build_image(tmp_path, progress=silent, arch="aarch64", boot_cd=True)


@pytest.mark.parametrize("number", ["1", "0badcafe"])
def test_the_number_of_a_disk_is_replaced_however_long_it_is(number: str) -> None:
    """qemu-img writes it without zeros in front, so one build in sixteen was refused."""
    rest = "parentCID=ffffffff\ncreateType=monolithicSparse\n"
    head = f"# Disk DescriptorFile\nCID={number}\n{rest}".encode().ljust(512, b"\0") + b"data"
    new = renumbered(head, b"12345678")
    assert len(new) == len(head) and new.endswith(b"\0data")
    assert new.partition(b"\0")[0].decode() == f"# Disk DescriptorFile\nCID=12345678\n{rest}"
    with pytest.raises(ImageError, match="without a number"):
        renumbered(b"KDMV" + bytes(512), b"12345678")


def test_two_disks_of_the_same_content_are_the_same_bytes(tmp_path: Path) -> None:
    """qemu-img has given each a number of its own."""
    disks = [tmp_path / "one.vmdk", tmp_path / "two.vmdk"]
    for disk, number in zip(disks, ("1", "0badcafe"), strict=True):
        disk.write_bytes(f"# Disk DescriptorFile\nCID={number}\ncreateType=x\n".encode().ljust(512, b"\0") + b"data")
        number_by_content(disk)
    assert disks[0].read_bytes() == disks[1].read_bytes() and disks[0].stat().st_size == 516


# --- modules.py ---

MODULES = {
    "9p": b"\0license=GPL\0depends=9pnet,netfs\0name=9p\0",
    "9pnet": b"\0depends=\0",
    "netfs": b"\0depends=9pnet\0",
    "loop": b"\0depends=pool\0",
    "pool": b"\0depends=loop\0",
}


def test_modules_come_after_what_they_need() -> None:
    assert modules.load_order(["9p", "9pnet"], MODULES.__getitem__) == ["9pnet", "netfs", "9p"]


def test_a_module_is_called_by_one_name_however_another_calls_it() -> None:
    """sd_mod needs t10-pi, whose file is t10-pi.ko, and which the kernel calls t10_pi."""
    assert modules.dependencies(b"\0depends=scsi_mod,t10-pi\0") == ["scsi_mod", "t10_pi"]


def test_modules_that_need_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="depends on itself"):
        modules.load_order(["loop"], MODULES.__getitem__)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(ValueError, match="no kernel module"):
        modules.dependencies(b"\x7fELF")


def test_a_signature_is_taken_off_and_nothing_else() -> None:
    code = b"\x7fELF code"
    signed = code + b"S" * 300 + struct.pack(">8xI", 300) + b"~Module signature appended~\n"
    assert modules.without_signature(signed) == code
    assert modules.without_signature(code) == code


OBJECT = """
int answer(void) { return 42; }
__asm__(".section .orc_unwind_ip, \\"a\\"\\n .long answer - .\\n"
        ".section .BTF\\n .asciz \\"types and types\\"\\n .text");
"""
MAIN = "int answer(void); int main(void) { return answer(); }"


def compiled(folder: Path, *options: str | Path) -> Path:
    subprocess.run(["cc", "-o", folder / "out", *options], check=True)
    return (folder / "out").rename(folder / f"{len(list(folder.iterdir()))}.o")


def test_a_slim_module_is_smaller_and_still_links(tmp_path: Path) -> None:
    (tmp_path / "object.c").write_text(OBJECT)
    (tmp_path / "main.c").write_text(MAIN)
    whole = compiled(tmp_path, "-c", tmp_path / "object.c").read_bytes()
    slim = modules.slim(whole)
    assert b"types and types" in whole and b"types and types" not in slim and len(slim) < len(whole)
    assert modules.slim(slim) == slim
    (tmp_path / "slim.o").write_bytes(slim)
    program = compiled(tmp_path, tmp_path / "main.c", tmp_path / "slim.o")
    assert subprocess.run([program]).returncode == 42


@pytest.mark.parametrize("length", [0, 63, 64, 500])
def test_a_module_that_is_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "object.c").write_text(OBJECT)
    whole = compiled(tmp_path, "-c", tmp_path / "object.c").read_bytes()
    with pytest.raises(ValueError, match="no kernel module: its sections"):
        modules.slim(whole[:length])


# --- debian.py, tools.py ---


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert debian.cache_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/vmbridge/debs")
    assert debian.cache_folder({"XDG_CACHE_HOME": ""}) == Path("/home/somebody/.cache/vmbridge/debs")


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts scripts into the PATH in the place of apt's programs, and nothing else."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(tools, "_SYSTEM_FOLDERS", "/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()

    def script(name: str, text: str) -> None:
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    return script


def silent(_: str) -> None:
    pass


def test_a_missing_program_says_what_to_install(apt: Callable[[str, str], None]) -> None:
    with pytest.raises(NotInstalled) as caught:
        tools.run("qemu-img", "--version")
    assert str(caught.value) == "qemu-img not found. Install it: apt-get install qemu-utils"


def test_a_program_that_fails_is_quoted(apt: Callable[[str, str], None]) -> None:
    apt("mke2fs", "echo no space left >&2; exit 3")
    with pytest.raises(ImageError, match=r"mke2fs -q failed \(status 3\): no space left"):
        tools.run("mke2fs", "-q")


def test_a_program_that_fails_while_it_is_read_is_quoted(apt: Callable[[str, str], None]) -> None:
    apt("dpkg-deb", "echo half; echo broken archive >&2; exit 2")
    with pytest.raises(ImageError, match="broken archive"), tools.output_of("dpkg-deb") as pipe:
        assert pipe.read() == b"half\n"


def test_an_ordinary_user_without_package_lists_is_told_what_to_type(
    apt: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    apt("apt-cache", "echo 'E: No packages found' >&2; exit 100")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ImageError, match="sudo apt-get update"):
        debian.find_package("busybox-static", silent)


def test_root_without_package_lists_fetches_them(
    apt: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = tmp_path / "lists"
    described = """Version: 1:2\nDepends: linux-image-6.1.0-1-amd64 (= 1:2)\nSHA256: 00\nDescription: x\n Version: 9"""
    apt("apt-cache", f"[ -e {lists} ] || exit 100; echo '{described}'")
    apt("apt-get", f": >{lists}")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    found = debian.find_package("linux-image-amd64", silent)
    assert found == debian.Package("linux-image-amd64", "1:2", "linux-image-6.1.0-1-amd64 (= 1:2)", "00")
    assert found.file_name == "linux-image-amd64_1%3a2_amd64.deb"
    assert debian.kernel_package(found, silent).name == "linux-image-6.1.0-1-amd64"


def test_packages_for_another_architecture_come_by_lists_of_our_own(
    apt: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So dpkg need not be told of that architecture, and no root is needed."""
    state = tmp_path / "cache/vmbridge/apt-arm64"
    said = tmp_path / "said"
    apt("apt-get", f'echo "$*" >>{said}; : >{state}/lists/there')
    described = "Version: 2\nDepends: linux-image-6.1.0-1-arm64 (= 2)\nSHA256: 00"
    apt("apt-cache", f"[ -e {state}/lists/there ] || exit 100; case \"$*\" in *:arm64) echo '{described}' ;; esac")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    debian.renew_lists("arm64", silent)
    found = debian.find_package("linux-image-arm64", silent, "arm64")
    assert found.file_name == "linux-image-arm64_2_arm64.deb"
    assert debian.kernel_package(found, silent).architecture == "arm64"
    (update,) = said.read_text().splitlines()
    assert update.endswith(" update") and f"Dir::State={state} " in update
    assert "APT::Architectures=arm64" in update and (state / "status").read_text() == ""
    debian.renew_lists("amd64", silent)
    assert len(said.read_text().splitlines()) == 1, "the computer's own lists are its administrator's"


def test_a_download_that_is_not_what_the_lists_promise_is_not_kept(
    apt: Callable[[str, str], None], tmp_path: Path
) -> None:
    apt("apt-get", "echo evil >x.deb")
    with pytest.raises(ImageError, match="not what the package lists promise"):
        debian.fetch(debian.Package("busybox-static", "1", "", "00"), silent)
    assert list((tmp_path / "cache/vmbridge/debs").iterdir()) == []


def test_what_is_in_the_cache_is_not_downloaded_again(apt: Callable[[str, str], None]) -> None:
    apt("apt-get", "echo good >x.deb")
    package = debian.Package("busybox-static", "1", "", hashlib.sha256(b"good\n").hexdigest())
    first = debian.fetch(package, silent)
    apt("apt-get", "exit 1")
    assert debian.fetch(package, silent) == first
    first.write_text("spoiled\n")
    with pytest.raises(ImageError, match="may be old"):
        debian.fetch(package, silent)
