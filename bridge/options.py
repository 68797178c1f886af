"""The options that the client hands to `vmbridge-app`: those of BOINC's wrappers, as one table. Pure.

A project that puts the bridge in an old program's place keeps its command line. An option that asks for what the bridge
does not do is refused by name, before anything starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from .errors import BridgeError


class OptionError(BridgeError):
    """The command line must be mended; the message names the option and says what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; None where it says nothing.

    `cpus` and `memory_mb` are the machine's, `arguments` more words for the program. `trickle_s` is how many seconds of
    run time lie between two trickles of our own. `device` is the number of a GPU, for programs on the host, which
    `use_tstp` suspends by SIGTSTP instead of SIGSTOP. `words` is the line as it was,
    `vmimage` the number of the image that a vbox_job.xml is to be run with.
    """

    version: bool = False
    cpus: int | None = None
    memory_mb: int | None = None
    hypervisor: str | None = None
    trickle_s: float | None = None
    device: int | None = None
    use_tstp: bool = False
    arguments: tuple[str, ...] = ()
    vmimage: int | None = None
    words: tuple[str, ...] = field(default=(), compare=False)


SHORTEST_TRICKLE_S = 10.0

Effect = Callable[[Options, str], Options]


def parse_options(words: Sequence[str]) -> Options:
    """Read the words after the program's name.

    :raise OptionError: one is unknown, has no value or a wrong one, or asks for what cannot be served.
    """
    options = Options(words=tuple(words))
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--passthrough_child":
            return replace(options, arguments=tuple(rest))
        if reason := _REFUSED.get(word):
            raise OptionError(f"the option {word} is not served: {reason}")
        if word in _FLAGS:
            options = _FLAGS[word](options, word)
        elif word in _VALUES:
            if not rest:
                raise OptionError(f"the option {word} needs a value")
            options = _VALUES[word](options, rest.pop(0))
        else:
            known = ", ".join(sorted((*_FLAGS, *_VALUES, "--passthrough_child")))
            raise OptionError(f"the option {word!r:.80} is not known. Known are: {known}")
    return options


def _number(option: str, text: str, low: float, high: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise OptionError(f"the option {option} takes a number from {low:g} to {high:,.0f}, not {text!r:.40}")
    return number


def _whole(option: str, text: str, low: int, high: int) -> int:
    """Read a number as the wrappers do, and round it up: the client writes `1.5` CPUs."""
    return math.ceil(_number(option, text, low, high))


def _trickle(text: str) -> float | None:
    """Read a period in seconds; 0 is none, as with the wrappers. The client takes one trickle in a second or two."""
    period = _number("--trickle", text, 0, 1e9)
    return max(period, SHORTEST_TRICKLE_S) if period else None


_FLAGS: dict[str, Effect] = {
    "--version": lambda options, _: replace(options, version=True),
    "-v": lambda options, _: replace(options, version=True),
    # A machine is paused, which no program in it can notice.
    "--use_tstp": lambda options, _: replace(options, use_tstp=True),
}

_VALUES: dict[str, Effect] = {
    "--nthreads": lambda options, text: replace(options, cpus=_whole("--nthreads", text, 1, 256)),
    "--memory_size_mb": lambda options, text: replace(
        options, memory_mb=_whole("--memory_size_mb", text, 64, 1_048_576)
    ),
    "--device": lambda options, text: replace(options, device=_whole("--device", text, 0, 1023)),
    "--hypervisor": lambda options, text: replace(options, hypervisor=text),
    "--vmimage": lambda options, text: replace(options, vmimage=_whole("--vmimage", text, 0, 999_999)),
    "--trickle": lambda options, text: replace(options, trickle_s=_trickle(text)),
}

_REFUSED = {
    "--sporadic": "sporadic applications are not supported",
    "--register_only": "it belongs to VirtualBox, and nothing is registered here",
    "--config": "the job file is always job.xml",
    "--dockerfile": "there are no containers here",
}
