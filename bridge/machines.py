"""Put the pieces together for the tasks in a job's machine: a hypervisor, an image, the guest's agent, a life each."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from guest_side import NotBuilt, read_agent
from protocol.layout import Share
from protocol.messages import InitData

from .errors import HypervisorError
from .guest.stage import stage_in
from .hypervisors import Continues, Hypervisor, MachineSpec
from .image import Image, load_image
from .job import MachineTask
from .life.forwarding import Project
from .life.loop import Limited, TaskLife
from .life.patience import Limits
from .life.saving import GoingOn
from .life.sequence import Part
from .workplace import Workplace


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

    def life(self, task: MachineTask, part: Part) -> TaskLife:
        """Return the life of a task.

        :raise BridgeError: what it needs is missing.
        """
        image = self.image_of(task)
        agent = None if self.backend.one_folder else self._agent(image.arch if image else platform.machine())
        spec = self._spec(task, image, part.before)

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

        return TaskLife(
            task,
            spec.share,
            self.place.machine,
            self.backend(spec),
            stage,
            part.audience,
            self._limited,
            part.home,
            self.going_on,
            self.project,
            spent=part.spent,
            leaves_disk=part.leaves_disk,
        )

    def image_of(self, task: MachineTask) -> Image | None:
        """Return the image of a task; None where no machine is started.

        :raise ImageError: it is not one.
        """
        if not self.backend.needs_image:
            return None
        if task.image not in self._images:
            self._images[task.image] = load_image(task.image, task.resolve)
        return self._images[task.image]

    @cached_property
    def _images(self) -> dict[Path, Image]:
        return {}

    @property
    def leave_disk(self) -> Callable[[Path], Awaitable[None]] | None:
        """What clears the folder of a machine whose disk is to be gone on with."""
        return self.backend.leave_disk if issubclass(self.backend, Continues) else None

    def _spec(self, task: MachineTask, image: Image | None, before: Path | None) -> MachineSpec:
        shared = self.place.shared
        return MachineSpec(
            name=task.machine,
            directory=self.place.machine,
            share=Share.one_folder(shared) if self.backend.one_folder else Share.two_folders(shared),
            image=image,
            memory_mb=task.memory_mb,
            cpus=task.cpus or 1,
            network=task.network,
            largest_file=self.largest_file,
            before=before,
        )

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
