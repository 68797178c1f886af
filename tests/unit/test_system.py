"""A Debian system as a tree of files, and the words for the programs that make and write it; nothing is installed."""

from __future__ import annotations

import io
import stat
import tarfile
from pathlib import Path

import pytest

from bridge.errors import ImageError
from bridge.image.disk import commands
from bridge.image.system import System, check, command, explained, joined, versions
from bridge.image.tree import Node, Tree, in_order, is_dropped


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: object
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tree_of(scratch: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Tree:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    archive.seek(0)
    scratch.mkdir(exist_ok=True)
    tree = Tree(scratch)
    tree.read_tar(archive)
    return tree


@pytest.fixture
def debian(tmp_path: Path) -> Tree:
    """A little of what mmdebstrap writes."""
    return tree_of(
        tmp_path / "scratch",
        entry("./", tarfile.DIRTYPE, mode=0o755),
        entry("./bin", tarfile.SYMTYPE, linkname="usr/bin"),
        entry("./usr/", tarfile.DIRTYPE, mode=0o755),
        entry("./usr/bin/", tarfile.DIRTYPE, mode=0o755),
        entry("./usr/bin/su", content=b"su", mode=0o4755),
        entry("./usr/bin/perl", content=b"perl", mode=0o755),
        entry("./usr/bin/perl5", tarfile.LNKTYPE, linkname="./usr/bin/perl"),
        entry("./var/mail/", tarfile.DIRTYPE, mode=0o2775, gid=8),
        entry("./dev/", tarfile.DIRTYPE, mode=0o755),
        entry("./dev/null", tarfile.CHRTYPE),
        entry("./var/log/dpkg.log", content=b"2026-11-26 installed"),
        entry("./var/lib/dpkg/status-old", content=b"x"),
    )


# --- tree.py ---


def test_an_archive_keeps_owners_permissions_and_second_names(debian: Tree) -> None:
    assert set(debian.nodes) == {
        "bin",
        "usr",
        "usr/bin",
        "usr/bin/su",
        "usr/bin/perl",
        "usr/bin/perl5",
        "var/mail",
        "dev",
    }
    su, mail = debian.nodes["usr/bin/su"], debian.nodes["var/mail"]
    assert su.mode == stat.S_IFREG | 0o4755 and su.content is not None and su.content.read_bytes() == b"su"
    assert (mail.mode, mail.gid) == (stat.S_IFDIR | 0o2775, 8)
    assert debian.nodes["usr/bin/perl5"].target == "usr/bin/perl"


@pytest.mark.parametrize(
    ("path", "dropped"),
    [
        ("dev", False),
        ("dev/null", True),
        ("device", False),
        ("var/log/apt/history.log", True),
        ("var/lib/dpkg/status", False),
        ("var/lib/dpkg/status-old", True),
        ("usr/bin/name-old", False),
    ],
)
def test_what_says_when_and_how_it_was_built_is_left_out(path: str, dropped: bool) -> None:
    assert is_dropped(path) is dropped


def test_a_folder_is_laid_over_it_as_roots(debian: Tree, tmp_path: Path) -> None:
    over = tmp_path / "over"
    (over / "opt/data").mkdir(parents=True)
    (over / "opt/data/table.txt").write_text("1 2 3\n")
    (over / "opt/link").symlink_to("data")
    (over / "usr/bin").mkdir(parents=True)
    (over / "usr/bin/su").write_text("ours")
    (over / "usr/bin/su").chmod(0o700)
    debian.add_folder(over)
    assert stat.S_ISDIR(debian.nodes["opt"].mode) and debian.nodes["opt/link"].target == "data"
    assert debian.nodes["opt/data/table.txt"].mode == stat.S_IFREG | 0o644
    assert debian.nodes["usr/bin/su"].mode == stat.S_IFREG | 0o755 and debian.text("usr/bin/su") == "ours"


def test_a_folder_called_bin_goes_where_debians_link_leads(debian: Tree, tmp_path: Path) -> None:
    """As a plain copy it would replace the link, and with it every program of the system."""
    (tmp_path / "over/bin").mkdir(parents=True)
    (tmp_path / "over/bin/tool").write_text("#!/bin/sh\n")
    debian.add_folder(tmp_path / "over")
    assert stat.S_ISLNK(debian.nodes["bin"].mode)
    assert "usr/bin/tool" in debian.nodes and "bin/tool" not in debian.nodes


def test_files_that_cannot_be_laid_over_it(debian: Tree, tmp_path: Path) -> None:
    for number, (path, said) in enumerate(
        [("usr/bin", "/usr/bin is a folder"), ("usr/bin/su/x", "/usr/bin/su is a file in the image")]
    ):
        over = tmp_path / str(number)
        (over / path).parent.mkdir(parents=True)
        (over / path).write_text("")
        with pytest.raises(ImageError, match=said):
            debian.add_folder(over)


# --- disk.py ---


def test_folders_are_made_before_what_is_in_them_and_second_names_last() -> None:
    def file(path: str, **more: str) -> Node:
        return Node(path, stat.S_IFREG | 0o644, **more)  # type: ignore[arg-type]  # a target

    nodes = [file("a", target="b/c"), file("b/c"), file("b-d"), Node("b", stat.S_IFDIR | 0o755)]
    assert [node.path for node in in_order(nodes)] == ["b", "b-d", "b/c", "a"]


def test_what_debugfs_is_told() -> None:
    nodes = [
        Node("d", stat.S_IFDIR | 0o2775, gid=8),
        Node('d/a "b"', stat.S_IFREG | 0o4755, uid=7, content=Path("/scratch/1")),
        Node("l", stat.S_IFLNK | 0o777, target="d/a b"),
        Node("x", stat.S_IFREG, target='d/a "b"'),
        Node("y", stat.S_IFREG, target='d/a "b"'),
    ]
    assert list(commands(nodes)) == [
        'mkdir "/d"',
        'sif "/d" mode 042775',
        'sif "/d" gid 8',
        'write "/scratch/1" "/d/a ""b"""',
        'sif "/d/a ""b""" mode 0104755',
        'sif "/d/a ""b""" uid 7',
        'symlink "/l" "d/a b"',
        'sif "/l" mode 0120777',
        'ln "/d/a ""b""" "/x"',
        'sif "/d/a ""b""" links_count 2',
        'ln "/d/a ""b""" "/y"',
        'sif "/d/a ""b""" links_count 3',
    ]


def test_a_name_that_would_be_another_command_is_refused() -> None:
    with pytest.raises(ImageError, match="control character"):
        list(commands([Node("a\nrm /etc", stat.S_IFDIR | 0o755)]))


# --- system.py ---


def test_packages_are_given_with_commas_or_one_by_one() -> None:
    assert joined(["python3,gfortran", "python3", " make "]) == ("gfortran", "make", "python3")


@pytest.mark.parametrize("name", ["-o", "Python", "a;b", "x", "python3/sid", ""])
def test_what_cannot_be_a_package_never_reaches_mmdebstrap(name: str) -> None:
    with pytest.raises(ImageError, match="cannot be the name of a package"):
        check(System(packages=(name,)))


def test_a_first_boot_script_that_cannot_be_executed(tmp_path: Path) -> None:
    script = tmp_path / "setup"
    script.write_text("echo hello\n")
    with pytest.raises(ImageError, match="Begin it with #!/bin/sh"):
        check(System(first_boot=script))


def test_the_order_of_packages_does_not_matter_and_licences_stay() -> None:
    one, other = (command(System(packages=names), Path("/c ache")) for names in (("b2", "a1"), ("a1", "b2")))
    assert one == other
    assert "--include=a1,b2" in one and one[-2:] == ["bookworm", "-"]
    assert any("/usr/share/doc/*/copyright" in word and "include" in word for word in one)
    assert any("'/c ache'" in word for word in one), "the hooks are shell commands"


@pytest.mark.parametrize(
    ("complaint", "said"),
    [
        ("E: Unable to locate package nosuch\nE: setup failed", "Debian 12 has no package nosuch."),
        (
            "W: Failed to fetch http://a/  Could not connect to 127.0.0.1:9 (127.0.0.1). - connect",
            "127.0.0.1:9 cannot be",
        ),
        ("Could not resolve 'no.such.host.invalid'\nE: Some", "no.such.host.invalid cannot be reached"),
        ("tar: x: Cannot write: No space left on device", "there is no room for the packages"),
        ("E: unable to pick chroot mode automatically (use --mode for manual selection)", "only root may"),
        ("something else", "something else"),
    ],
)
def test_what_mmdebstrap_complains_of_in_one_sentence(complaint: str, said: str) -> None:
    assert explained(complaint).startswith(said)


def test_the_versions_are_those_of_what_is_installed() -> None:
    status = """Package: libc6
Status: install ok installed
Version: 2.36-9
Description: a library
 Version: of a sort

Package: gone
Status: deinstall ok config-files
Version: 1

Package: bash
Status: install ok installed
Version: 5.2
"""
    assert list(versions(status).items()) == [("bash", "5.2"), ("libc6", "2.36-9")]
