"""VirtualBox for the tests: the real one from a folder, and a stand-in for what the real one cannot do here.

The stand-in is one program by two names. What it says and does was written from VirtualBox's documentation: it shows
that the bridge does what it means to, and nothing of what VirtualBox does.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

_REAL = r"""#!/bin/sh
# A view of the folder with this computer's /proc, /dev, /sys, /tmp, Python packages and the bridge, for this program
# and what it starts.
exec unshare --mount sh -c '
    root=$1 user=$2 name=$3 packages=$4 bridge=$5; shift 5
    for folder in proc dev sys tmp "$packages" "$bridge"; do
        mkdir -p "$root/$folder"
        mount --rbind "/$folder" "$root/$folder"
    done
    exec chroot --userspec="$user" "$root" "/usr/bin/$name" "$@"
' sh "{root}" "{user}" "$(basename "$0")" "{packages}" "{bridge}" "$@"
"""

_STANDIN = r"""#!{python}
import os, signal, sys, time
from pathlib import Path

here, home = Path(sys.argv[0]).parent, Path(os.environ["VBOX_USER_HOME"])
words = [word for word in sys.argv[1:] if word != "-q"]
state, pid = home / "state", home / "pid"

def option(name):
    return words[words.index(name) + 1]

with (here / "calls").open("a") as calls:
    print(Path(sys.argv[0]).name, *words, file=calls)
if Path(sys.argv[0]).name == "VBoxHeadless":
    if (here / "no driver").exists():
        sys.exit("VBoxHeadless: Error -1908 in suplibOsInit!\nVBoxHeadless: Kernel driver not installed")
    assert state.read_text() == "poweroff"
    pid.write_text(str(os.getpid()))
    (home.parents[1] / "console.txt").write_text("booting\n")
    state.write_text("running")
    while not (here / "off").exists():
        time.sleep(0.01)
    state.write_text("poweroff")
    sys.exit()
if (here / "hangs").exists():
    time.sleep(600)
match words:
    case ["--version"]:
        print("7.2.22r175245")
    case ["createvm", *_]:
        home.mkdir(parents=True)
        (home.parent / option("--name")).mkdir()
        state.write_text("poweroff")
    case ["createmedium", *_]:
        with open(option("--filename"), "x") as disk:
            disk.write("a disk")
    case ["closemedium", "disk", disk, "--delete"]:
        os.unlink(disk)
    case ["storageattach", *_]:
        assert os.path.exists(option("--medium"))
    case ["showvminfo", *_]:
        print('VMState="' + state.read_text() + '"')
    case ["controlvm", _, "pause"]:
        assert state.read_text() == "running"
        state.write_text("paused")
    case ["controlvm", _, "resume"]:
        assert state.read_text() == "paused"
        state.write_text("running")
"""


def real(folder: Path, root: Path, user: str) -> Path:
    """Put programs into `folder` that are those of the VirtualBox in `root`, run as `user` (numbers).

    The Python there is one that has VirtualBox's API.
    """
    values = {"root": str(root), "user": user, "packages": os.path.realpath(sysconfig.get_path("purelib"))[1:]}
    values["bridge"] = os.path.realpath(Path(__file__).parents[1] / "bridge")[1:]
    text = _REAL
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return _programs(folder, text, "python3")


def standin(folder: Path) -> Path:
    """Put the stand-in into `folder`. Files beside it tell it what to do: "no driver", "hangs", "off"."""
    return _programs(folder, _STANDIN.replace("{python}", sys.executable))


def _programs(folder: Path, text: str, *more: str) -> Path:
    folder.mkdir()
    for name in ("VBoxManage", "VBoxHeadless", *more):
        (folder / name).write_text(text)
        os.chmod(folder / name, 0o755)
    return folder
