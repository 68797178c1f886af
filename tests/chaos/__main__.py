"""`python -m tests.chaos --rounds N --seed S`: round i has the seed S + i, so that one that failed can be repeated."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from .attended import EVERY, attended
from .job import IMAGE
from .plan import Cell, Harm, matrix, plan, reasons
from .round import Round, compiled
from .slot import Ballast, Told


def main() -> int:
    """Run the rounds, print the matrix; returns 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--side-by-side", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path("build/chaos"), help="where what failed is kept")
    parser.add_argument("--harms", type=_harms, default=[*Harm], help="only these, separated by commas")
    options = parser.parse_args()
    harms: list[Harm] = options.harms
    if not (IMAGE / "image.json").exists():
        parser.error("there is no build/image: run `make image` first")
    keep: Path = options.keep
    shutil.rmtree(keep, ignore_errors=True)
    keep.mkdir(parents=True)
    real_disk = Ballast.possible()
    if not real_disk:
        print("disk full: not tried, this user may not mount")
    hits: Counter[Cell] = Counter()
    failed: list[int] = []
    begun = time.monotonic()
    libraries = compiled(keep.resolve())
    with ThreadPoolExecutor(options.side_by_side) as pool:
        seeds = range(options.seed, options.seed + options.rounds)
        rounds = {pool.submit(one, seed, real_disk, harms, keep, libraries): seed for seed in seeds}
        for done in as_completed(rounds):
            told = done.result()
            hits.update(told.hit)
            _print(rounds[done], told)
            if told.wrong:
                failed.append(rounds[done])
    print(f"\n{matrix(hits)}\n\nwhat cannot be hit:\n{reasons()}\n")
    print(f"{options.rounds} rounds from seed {options.seed} in {time.monotonic() - begun:.0f} s, {len(failed)} failed")
    if failed:
        print(f"failed seeds: {' '.join(map(str, sorted(failed)))}; their slots are in {keep}")
    return 1 if failed else 0


def _harms(names: str) -> list[Harm]:
    return [Harm(name) for name in names.split(",")] if names else [*Harm]


def one(seed: int, real_disk: bool, harms: Sequence[Harm], keep: Path, libraries: Path) -> Told:
    """Run the round of one seed; what failed is kept in `keep`."""
    directory = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
    try:
        if seed % EVERY == 0 and len(harms) == len(Harm):
            told = attended(seed, directory)
        else:
            told = Round(plan(seed, real_disk=real_disk, harms=harms), directory, libraries).run()
        if told.wrong:
            (directory / "told").write_text("\n".join([*told.story, *told.wrong]) + "\n")
            shutil.copytree(directory, keep / str(seed), symlinks=True, dirs_exist_ok=True)
        return told
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _print(seed: int, told: Told) -> None:
    print(f"seed {seed}: {'WRONG' if told.wrong else 'right'}, {told.starts} starts", flush=True)
    for line in told.story:
        print(f"    {line}")
    for line in told.wrong:
        print(f"    WRONG: {line}")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
