"""The commands that people type: `vmbridge run`, `lint`, `explain`, `package` and so on.

What the BOINC client starts is another door (bridge/app.py); this one may import what it likes.
"""

from __future__ import annotations

import contextlib
import logging
import sys

import click

from ..errors import BridgeError
from .doctor import doctor
from .image import image
from .jobfile import explain, lint
from .library import library
from .package import package
from .run import run
from .slots import check, status
from .terminal import printable

PACKAGE = "boinc-vm-bridge"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=PACKAGE, prog_name="vmbridge")
@click.option("-v", "--verbose", is_flag=True, help="Say what is started and why, on standard error.")
def vmbridge(verbose: bool) -> None:
    """Run science programs in virtual machines, for BOINC or on their own."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO if verbose else logging.WARNING)
    # qemu.qmp reports each lost connection as an error of its own; we say what became of the machine.
    logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


vmbridge.add_command(run)
vmbridge.add_command(image)
vmbridge.add_command(library)
vmbridge.add_command(package)
vmbridge.add_command(lint)
vmbridge.add_command(explain)
vmbridge.add_command(check)
vmbridge.add_command(status)
vmbridge.add_command(doctor)


def main() -> None:
    """Run the command line; the only place that turns errors into exit codes."""
    try:
        vmbridge.main(standalone_mode=False)
    except (BridgeError, OSError) as error:
        with contextlib.suppress(OSError):  # it may be standard error that cannot be written
            click.echo(f"vmbridge: {printable(str(error))}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as exit:
        sys.exit(exit.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
