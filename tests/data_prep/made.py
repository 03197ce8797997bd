"""A dataset without videos, which can be slow, reject clips, kill its worker or have a fault."""

import os
import signal
import sys
import time
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import torch

from data_prep.dataset import ClipSpec, Dataset, Rejected, Source
from data_prep.driver import main
from m2svid.data.shards import Clip


@dataclass(frozen=True, kw_only=True)
class MadeClips(Dataset):
    """Made clips.

    Attributes:
        names: of the videos.
        clips: of every video.
        level: brightest value of the pictures.
        reject: key of a clip or name of a video that is rejected.
        kill: key or name that kills the worker.
        fault: key that meets a programming error.
        slow: seconds that a clip takes.
        log: file that gets a line whenever a clip is begun.
    """

    names: list[str]
    clips: int = 3
    level: int = 256
    reject: str = ""
    kill: str = ""
    fault: str = ""
    slow: float = 0.0
    log: Path | None = None

    name: ClassVar[str] = "made"
    positional: ClassVar[str] = "names"
    inputs: ClassVar[tuple[str, ...]] = ("names", "reject", "kill", "fault", "slow", "log")

    def sources(self):
        return [Source(name, Path(f"{name}.mp4"), {}, self.clips * 0.5, 4.0, (48, 32)) for name in self.names]

    def survey(self, source):
        self._meet(source.name)
        return {"seen": source.name}

    def plan(self, source, survey):
        return [
            ClipSpec(f"{source.name}-{index:04d}", Fraction(index, 2), Fraction(index + 1, 2))
            for index in range(self.clips)
        ]

    def clip(self, reader, spec, source, survey):
        self._meet(spec.key)
        time.sleep(self.slow)
        generator = torch.Generator().manual_seed(zlib.crc32(spec.key.encode()))
        left, right = (
            torch.randint(self.level, (2, 3, 32, 48), generator=generator).to(torch.uint8) for _ in range(2)
        )
        disparity = torch.rand(2, 1, 32, 48, generator=generator) * 10
        return Clip(spec.key, left, right, Fraction(4), disparity, notes=survey)

    def _meet(self, name):
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{name}\n")
        if name == self.reject:
            raise Rejected("made", f"unwanted: {name} is on the list")
        if name == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == self.fault:
            raise TypeError(name)


if __name__ == "__main__":
    sys.exit(main(MadeClips))
