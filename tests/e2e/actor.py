#!/usr/bin/env python3
"""A science application that does one thing to the client, named by its first word. It needs nothing but this file."""

import mmap
import os
import re
import signal
import sys
import time
from pathlib import Path

APP_STATUS, TRICKLE_UP = 5 * 1024, 6 * 1024


class Mailboxes:
    """The memory shared with the client, in which each mailbox has a flag that says "full", and a text."""

    def __init__(self) -> None:
        with open("boinc_mmap_file", "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 8192)

    def send(self, offset: int, text: str) -> None:
        """Wait for the mailbox to be empty, fill it, and wait until the client has emptied it."""
        self.wait_until_empty(offset)
        self.memory[offset + 1 : offset + 2 + len(text)] = text.encode() + b"\0"
        self.memory[offset] = 1
        self.wait_until_empty(offset)

    def wait_until_empty(self, offset: int) -> None:
        """Wait for the client, which reads once a second."""
        while self.memory[offset]:
            time.sleep(0.01)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def finish(code: int = 0) -> None:
    Path("boinc_finish_called").write_text(f"{code}\n")


def resolved(name: str) -> str:
    found = re.search("<soft_link>(.*)</soft_link>", Path(name).read_text())
    return found.group(1) if found else name


def temporary_exit(reason: str) -> None:
    Path("boinc_temporary_exit").write_text(f"1\n{reason}")


def act(words: list[str], start: int) -> int:
    """Do what the words say; `start` counts the starts of this job. Returns the exit status."""
    if start > 1:
        # Whatever it was, the client has started it again.
        finish()
        return 0
    match words:
        case ["finish", code]:
            finish(int(code))
        case ["exit", code]:
            return int(code)
        case ["leave"]:
            pass
        case ["postpone", *reason]:
            temporary_exit("".join(f"{line}\n" for line in reason))
        case ["signal", name]:
            os.kill(os.getpid(), getattr(signal, name))
        case ["see", path]:
            say(f"readable: {os.access(path, os.R_OK)}, user {os.getuid()}, preload {os.environ.get('LD_PRELOAD')}")
            finish()
        case ["memory"]:
            key = re.search("<shm_key>(.*)</shm_key>", Path("init_data.xml").read_text())
            say(f"shm_key {key.group(1) if key else None}, mapped file: {os.path.exists('boinc_mmap_file')}")
            finish()
        case ["work", data]:
            Path(resolved("out")).write_text(Path(resolved("in")).read_text() + data)
            Mailboxes().send(
                APP_STATUS,
                "<current_cpu_time>42.5</current_cpu_time><checkpoint_cpu_time>40</checkpoint_cpu_time>"
                "<fraction_done>0.75</fraction_done>"
                "<fpops_cumulative>5e9</fpops_cumulative><intops_cumulative>7e3</intops_cumulative>",
            )
            finish()
        case ["trickle", text]:
            Path("trickle_up.xml").write_text(f"<variety>test</variety>\n{text}\n")
            Mailboxes().send(TRICKLE_UP, "<have_new_trickle_up/>\n")
            while not (down := list(Path().glob("trickle_down_*"))):
                time.sleep(0.01)
            say(f"came down: {down[0].read_text()}")
            finish()
        case _:
            say(f"not known: {words}")
            return 1
    return 0


def main() -> int:
    count = Path("starts")
    start = int(count.read_text()) + 1 if count.exists() else 1
    count.write_text(str(start))
    say(f"start {start}")
    return act(sys.argv[1:], start)


if __name__ == "__main__":
    sys.exit(main())
