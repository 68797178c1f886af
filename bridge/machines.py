"""Put the pieces together for the tasks in a job's machine: a hypervisor, an image, the guest's agent, a life each."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from guest_side import NotBuilt, read_agent
from protocol.layout import Share
from protocol.messages import InitData

from .errors import HypervisorError, host_trouble
from .guest.plain import PlainWay, forget_end, output_links, stage_plain
from .guest.stage import stage_in
from .guest.way import Way
from .hypervisors import Continues, Hardware, Hypervisor, MachineSpec, Particular
from .image import Image, load_image
from .image.bare import BareDisk, load_disk
from .image.choice import choose_image
from .job import MachineTask, PlainGuest
from .life.decide import End, Outcome
from .life.forwarding import Project
from .life.loop import Limited, TaskLife
from .life.patience import Limits, heartbeat_limits
from .life.saving import GoingOn
from .life.sequence import Part
from .workplace import SHARED, Workplace

SCRATCH = "scratch"
"""A folder of the project's, and its tag for the guests that may use it."""


@dataclass(frozen=True)
class Machines:
    """What the lives of all tasks in the machine have in common; the fields are as in `run.run_job`."""

    backend: type[Hypervisor]
    place: Workplace
    boot_s: float | None = None
    going_on: GoingOn | None = None
    project: Project | None = None
    init_data: InitData | None = None
    largest_file: int | None = None
    project_dir: Path = Path()

    def life(self, task: MachineTask, part: Part) -> TaskLife:
        """Return the life of a task.

        :raise BridgeError: what it needs is missing.
        """
        if task.plain is not None:
            return self._plain_life(replace(task, outputs=output_links(task, task.plain)), task.plain, part)
        image = self.image_of(task)
        agent = None if self.backend.one_folder else self._agent(image.arch if image else platform.machine())
        shared = self.place.shared
        share = Share.one_folder(shared) if self.backend.one_folder else Share.two_folders(shared)
        spec = self._spec(task, image, share, part.before)

        def stage(seq: int, saved: Mapping[str, Path]) -> None:
            static_only = image is not None and image.static_programs_only
            stage_in(
                task,
                spec.share,
                agent=agent,
                static_only=static_only,
                seq=seq,
                init_data=self.init_data,
                saved=saved,
            )

        return self._life(task, spec, stage, part, self._limited, None)

    def _plain_life(self, task: MachineTask, guest: PlainGuest, part: Part) -> TaskLife:
        share = Share.one_folder(self.place.shared)
        hardware = self._hardware(guest, share)
        spec = replace(self._spec(task, self.image_of(task), share, part.before), hardware=hardware)
        limited = self._limited
        if not self.backend.one_folder:
            # A guest that has no heartbeat may take its time.
            silence = heartbeat_limits(guest.minimum_heartbeat_interval, task.cpus or 1)
            beat = None if guest.heartbeat_filename is None else silence
            limited = Limited(boot=beat, silence=beat, hung_s=None)

        def stage(seq: int, saved: Mapping[str, Path]) -> None:
            stage_plain(task, guest, share, self.place.machine, self.init_data)

        return self._life(task, spec, stage, part, limited, PlainWay(guest))

    def _life(
        self,
        task: MachineTask,
        spec: MachineSpec,
        stage: Callable[[int, Mapping[str, Path]], None],
        part: Part,
        limited: Limited,
        way: Way | None,
    ) -> TaskLife:
        return TaskLife(
            task,
            spec.share,
            self.place.machine,
            self.backend(spec),
            stage,
            part.audience,
            limited,
            part.home,
            self.going_on,
            self.project,
            spent=part.spent,
            leaves_disk=part.leaves_disk,
            way=way,
        )

    def check(self, task: MachineTask) -> None:
        """See to it that a task can be run here.

        :raise BridgeError: it cannot.
        """
        if task.plain is not None and not (self.backend.needs_image or self.backend.one_folder):
            raise HypervisorError(f"the job's program is in its image {task.image}, so it cannot run without a machine")
        self.image_of(task)

    def tidy(self, tasks: Iterable[MachineTask], outcome: Outcome) -> None:
        """Forget what a plain guest has said of its end when the job is over, for its folder stays."""
        for task in tasks:
            if task.plain is not None and outcome.end is End.SUCCESS:
                forget_end(task.plain, Share.one_folder(self.place.shared))

    def image_of(self, task: MachineTask) -> Image | BareDisk | None:
        """Return the image of a task; None where no machine is started.

        :raise ImageError: it is not one, or is not there.
        :raise Hindered: the hypervisor can boot none of its images.
        """
        if not self.backend.needs_image:
            return None
        if task.image not in self._images:
            if task.plain is None:
                self._images[task.image] = choose_image(
                    task.images, lambda path: load_image(path, task.resolve), self._refuses
                )
            elif (name := task.plain.multiattach_vdi_file) is not None:
                self._images[task.image] = load_disk(self.project_dir / name)
            else:
                self._images[task.image] = load_disk(task.image, task.resolve)
        return self._images[task.image]

    def _refuses(self, image: Image | BareDisk) -> str | None:
        return self.backend.refuses(image) if issubclass(self.backend, Particular) else None

    @cached_property
    def _images(self) -> dict[Path, Image | BareDisk]:
        return {}

    @property
    def leave_disk(self) -> Callable[[Path], Awaitable[None]] | None:
        """What clears the folder of a machine whose disk is to be gone on with."""
        return self.backend.leave_disk if issubclass(self.backend, Continues) else None

    def _spec(
        self, task: MachineTask, image: Image | BareDisk | None, share: Share, before: Path | None
    ) -> MachineSpec:
        return MachineSpec(
            name=task.machine,
            directory=self.place.machine,
            share=share,
            image=image,
            memory_mb=task.memory_mb,
            cpus=task.cpus or 1,
            network=task.network,
            largest_file=self.largest_file,
            before=before,
        )

    def _hardware(self, guest: PlainGuest, share: Share) -> Hardware:
        exports = [(SHARED, share.guest)] if guest.shared else []
        if guest.scratch:
            scratch = self.project_dir / SCRATCH
            with host_trouble(f"make {scratch}"):
                scratch.mkdir(exist_ok=True)
            exports.append((SCRATCH, scratch))
        return Hardware(guest.disk_controller, guest.network_card, tuple(exports))

    def _agent(self, arch: str) -> bytes:
        try:
            return read_agent(arch)
        except NotBuilt as error:
            raise HypervisorError(str(error)) from error

    @property
    def _limited(self) -> Limited:
        """A person who plays the guest may take their time."""
        if self.backend.one_folder:
            return Limited(boot=None, silence=None, hung_s=None)
        return Limited() if self.boot_s is None else Limited(boot=Limits(cpu_s=self.boot_s, clock_s=self.boot_s))
