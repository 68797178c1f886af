"""A libvirt of the tests' own: Debian's daemon with folders of its own, where nothing of the computer's is touched.

It sees a private /dev, so that an unusable /dev/kvm is not there for it: it would try it for 80 seconds at each start
of a machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bridge.errors import NotInstalled
from bridge.hypervisors.libvirt.binding import binding

from .patience import until

_PRIVATE = r"""
set -e
cd "$1"
for folder in run/libvirt run/lock var/lib/libvirt var/log/libvirt var/cache/libvirt etc/libvirt; do
    mkdir -p "/$folder" "$folder"
    mount --bind "$folder" "/$folder"
done
mkdir dev
mount -t tmpfs tmpfs dev
for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount --bind /dev/shm dev/shm
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount --rbind dev /dev
exec libvirtd --pid-file "$1/pid" --config /etc/libvirt/libvirtd.conf
"""

_MOUNTS = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]


def forbidden() -> str | None:
    """Say why we may not have one here; None if we may. A container often may not."""
    if os.geteuid() != 0 or subprocess.run(_MOUNTS, capture_output=True, check=False).returncode != 0:
        return "only root can give libvirtd a file system of its own"
    return None


def missing() -> str | None:
    """Say what is not installed for one; None if all is there."""
    if absent := [program for program in ("libvirtd", "virsh", "qemu-img") if shutil.which(program) is None]:
        return f"{', '.join(absent)} not installed: make test-libvirt installs it"
    try:
        binding()
    except NotInstalled as error:
        return f"{error}: make test-libvirt installs it"
    return None


@contextmanager
def daemon(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A libvirtd with its files in `folder`: its URI, and its process. It and what it has started end afterwards."""
    (folder / "etc" / "libvirt").mkdir(parents=True)
    (folder / "etc" / "libvirt" / "qemu.conf").write_text('stdio_handler = "file"\n')  # no second daemon for logs
    (folder / "etc" / "libvirt" / "libvirtd.conf").write_text('auth_unix_rw = "none"\nunix_sock_rw_perms = "0777"\n')
    socket = folder / "run" / "libvirt" / "libvirt-sock"
    assert len(str(socket)) < 100, "the path of a socket is short"
    with (folder / "out").open("wb") as out:
        words = ["unshare", "--mount", "sh", "-c", _PRIVATE, "sh", str(folder)]
        started = subprocess.Popen(words, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        until(
            lambda: socket.exists() or started.poll() is not None,
            lambda: (folder / "out").read_text(errors="replace")[-2000:],
        )
        assert started.poll() is None, (folder / "out").read_text(errors="replace")[-2000:]
        yield f"qemu+unix:///system?socket={socket}", psutil.Process(started.pid)
    finally:
        started.kill()
        started.wait()
