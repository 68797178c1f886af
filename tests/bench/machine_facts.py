"""What stands beside the figures: on which machine, and with which versions of everything, they were found."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

from .scratch import BUILD, IMAGE, REPOSITORY

_PACKAGES = ("boinc-vm-bridge", "watchdog", "qemu.qmp", "psutil")
_PROGRAMS = {"qemu": "qemu-system-x86_64", "cc": "cc", "cp": "cp"}


def machine_facts() -> dict[str, object]:
    """Return the machine: processor, memory, disk, and how busy it was when the measurements began."""
    return {
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total // 1_000_000,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": _distribution(),
        "kvm": Path("/dev/kvm").exists(),
        "file_system": _file_system(BUILD),
        "load_average": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Return the versions of what was measured and of the peers; what is not here is left out."""
    found = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    for name, program in _PROGRAMS.items():
        if shutil.which(program):
            found[name] = _first_line(program, "--version")
    if boinc := _first_line("dpkg-query", "--show", "--showformat=${Version}", "libboinc-app-dev"):
        found["libboinc-app-dev"] = boinc
    if commit := _first_line("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"):
        found["commit"] = commit
    return found | _image_packages()


def _image_packages() -> dict[str, str]:
    try:
        manifest = json.loads((IMAGE / "image.json").read_text())
    except OSError:
        return {}
    return {str(name): str(number) for name, number in manifest.get("packages", {}).items()}


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.processor()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return "unknown"


def _file_system(folder: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"


def _first_line(*command: str) -> str:
    """Return the first line that a command prints, or nothing if it is not here or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.partition("\n")[0].strip()
