"""What a job is to the rest of the bridge: its tasks, one after the other, and what goes on around them. Frozen.

Names of files are as the job file has them; `resolve` tells which file a path in the job directory stands for, as in a
slot, where names are links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from protocol.messages import Task

CHECKPOINT_PERIOD_S = 300.0
"""What the client's own library takes where nobody says."""

PACKAGES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
"""How the names of packages end that any image can take."""

SYSTEM_PACKAGES = (".deb", ".rpm")
"""How the names of packages end that an image must have a tool for."""


def itself(path: Path) -> Path:
    """Return `path`: in an ordinary job directory a name stands for itself."""
    return path


@dataclass(frozen=True, slots=True)
class PlainGuest:
    """A guest without our agent, as BOINC's vboxwrapper has them: it writes plain files into one folder, `shared`.

    The names are those of `vbox_job.xml`, and of files in `shared`; None and () are files that there are none of.
    `minimum_heartbeat_interval` and `job_duration` are in seconds, the latter of run time over all starts; None is as
    long as it takes. `copy_to_shared` are files of the job directory that are there from the start, and with
    `copy_cmdline_to_shared` the arguments are, too; without `shared` the guest cannot mount the folder. `scratch` is
    a second one, which outlives the job. `multiattach_vdi_file` is the image, if it is one in the project's folder.
    The machine boots its disk behind a `disk_controller` (ide, sata, scsi, sas, virtio) and has, where there is a
    network, a `network_card` (e1000, pcnet, virtio).
    """

    fraction_done_filename: str | None = None
    heartbeat_filename: str | None = None
    minimum_heartbeat_interval: float = 600.0
    completion_trigger_file: str | None = None
    temporary_exit_trigger_file: str | None = None
    job_duration: float | None = None
    trickle_trigger_files: tuple[str, ...] = ()
    intermediate_upload_files: tuple[str, ...] = ()
    copy_to_shared: tuple[str, ...] = ()
    copy_cmdline_to_shared: bool = False
    multiattach_vdi_file: str | None = None
    shared: bool = True
    scratch: bool = False
    disk_controller: str = "sata"
    network_card: str = "e1000"


@dataclass(frozen=True, slots=True)
class MachineTask:
    """A program in the job's machine. Files are plain names in the job directory.

    With `copies_application` the program is one of them; else it is in the image, or comes with one of the `packages`,
    and `application` is an absolute path there or a name that the guest's `PATH` finds. `packages` are installed before
    the program starts, in order, and removed when it has ended.

    `cpus` is None where the job file leaves it to whoever runs the job. `takes_more_arguments` says that those on the
    command line of the bridge are meant for the program, `network` that the machine needs the internet. `cpu_time` says
    whose the client is told: `host`, the machine's there, or `guest`, the program's in it. `weight` is the task's share
    of the job's `fraction_done`. With `plain` the program is in the image, and nothing is said of it here: the guest
    knows no agent, and `application` is empty. Where `image` cannot be booted, one of `more_images` may do.
    """

    file: Path
    machine: str
    image: Path
    application: str
    arguments: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    hypervisor: str | None = None
    memory_mb: int = 256
    cpus: int | None = None
    checkpoint_period: float | None = None
    checkpoint_files: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    copies_application: bool = True
    cpu_time: str = "host"
    takes_more_arguments: bool = False
    network: bool = False
    weight: float = 1.0
    plain: PlainGuest | None = None
    more_images: tuple[Path, ...] = ()
    resolve: Callable[[Path], Path] = field(default=itself, compare=False)

    @property
    def images(self) -> tuple[Path, ...]:
        """The images of which the first is taken that the hypervisor can boot."""
        return (self.image, *self.more_images)

    @property
    def directory(self) -> Path:
        """The job directory: inputs are taken from here and results are brought here."""
        return self.file.parent

    def path(self, name: str) -> Path:
        """Return the file that `name` stands for in the job directory."""
        return self.resolve(self.directory / name)

    @property
    def results(self) -> tuple[str, ...]:
        """The names of all files that the guest brings back: the outputs and the standard streams that have a name."""
        streams = (name for name in (self.stdout, self.stderr) if name is not None)
        return tuple(dict.fromkeys((*self.outputs, *streams)))

    def task(self, saved: Iterable[str] = ()) -> Task:
        """Say the job in the protocol's words; the files that the program has `saved` are inputs too."""
        stdin = () if self.stdin is None else (self.stdin,)
        return Task(
            program=self.application.rpartition("/")[2],
            arg=self.arguments,
            env=self.environment,
            input=tuple(dict.fromkeys((*self.inputs, *stdin, *saved))),
            output=self.results,
            stdin=self.stdin,
            stdout=self.stdout,
            stderr=self.stderr,
            checkpoint_period=CHECKPOINT_PERIOD_S if self.checkpoint_period is None else self.checkpoint_period,
            checkpoint_file=tuple(dict.fromkeys(self.checkpoint_files)),
            package=tuple(dict.fromkeys(self.packages)),
            program_path=None if self.copies_application else self.application,
        )


@dataclass(frozen=True, slots=True)
class HostTask:
    """A program of this host, as BOINC's wrapper runs it.

    `application`, `command_line`, `exec_dir` and `environment` are as written: macros and `boinc_resolve()` are
    replaced when it starts, for only then is known by what. `line` is where the job file has it. `environment`
    (NAME=VALUE), if there is any, is all that the program gets. `checkpoint_filename` is a file whose change says that
    the program has saved its state, `fraction_done_filename` one whose last number is how far it is. `time_limit` is in
    seconds of run time; whoever reaches it is ended, and has succeeded. `priority` is 1 (lowest) to 5. With
    `multi_process`, all that descends from it is suspended and resumed, else itself alone. `takes_more_arguments` and
    `weight` are as in a `MachineTask`.
    """

    application: str
    command_line: str = ""
    line: int = 0
    exec_dir: str | None = None
    environment: tuple[str, ...] = ()
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    checkpoint_filename: str | None = None
    fraction_done_filename: str | None = None
    weight: float = 1.0
    time_limit: float | None = None
    priority: int = 1
    multi_process: bool = False
    forward_slashes: bool = False
    takes_more_arguments: bool = False


@dataclass(frozen=True, slots=True)
class ZipOutput:
    """What is packed when all tasks are done: the files of the slot in whose names one of `patterns` is found.

    The patterns are those of C++; `patterns.file_pattern` makes Python's of them.
    """

    zipfilename: str
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """All that a job file says.

    `unzip_input` are archives that are unpacked before anything runs, once; `unzip_tasks` programs that do the like,
    once. `helpers` run while a task that uses a machine is to be run, `daemons` while any is; both are ended with the
    tasks. `graphics` asks for a file that tells a screensaver how far the job is.
    """

    file: Path
    tasks: tuple[MachineTask | HostTask, ...]
    unzip_input: tuple[str, ...] = ()
    unzip_tasks: tuple[HostTask, ...] = ()
    helpers: tuple[HostTask, ...] = ()
    daemons: tuple[HostTask, ...] = ()
    zip_output: ZipOutput | None = None
    graphics: bool = False
    resolve: Callable[[Path], Path] = field(default=itself, compare=False)

    @property
    def directory(self) -> Path:
        """The job directory: inputs are taken from here and results are brought here."""
        return self.file.parent

    @property
    def machine_tasks(self) -> tuple[MachineTask, ...]:
        """The tasks that run in the job's machine."""
        return tuple(task for task in self.tasks if isinstance(task, MachineTask))

    @property
    def host_tasks(self) -> tuple[HostTask, ...]:
        """All programs of this host that the job may start."""
        tasks = (task for task in self.tasks if isinstance(task, HostTask))
        return (*self.unzip_tasks, *self.helpers, *self.daemons, *tasks)

    @property
    def name(self) -> str:
        """What a person may call it: its machine's name, or its first program's."""
        return self.machine_tasks[0].machine if self.machine_tasks else self.tasks[0].application

    def path(self, name: str) -> Path:
        """Return the file that `name` stands for in the job directory."""
        return self.resolve(self.directory / name)
