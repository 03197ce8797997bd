"""The contract between a dataset and the driver that turns it into shards.

A dataset knows its inputs and makes clips; `data_prep.driver` does everything that all datasets share:
command line, plan, processes and machines, resuming, rejections, reports, matching and writing. A dataset
is one file:

    @dataclass(frozen=True, kw_only=True)
    class MyVideos(Dataset):
        '''Options of the command line; each attribute is explained here and becomes --attribute.'''
        videos: list[Path]
        clip_seconds: float = 5.0

        name: ClassVar[str] = "mine"
        positional: ClassVar[str] = "videos"        # the option that is given without --, one or more
        inputs: ClassVar[tuple[str, ...]] = ("videos",)    # where things lie; not part of the settings' hash

        def sources(self): ...                      # one Source per video, cheap, same order every time
        def survey(self, source): ...               # optional: looks at a whole video once, returns JSON
        def plan(self, source, survey): ...         # the clips of a video, in order of their beginning
        def clip(self, reader, spec, source, survey): ...    # makes one clip, or raises Rejected

    if __name__ == "__main__":
        sys.exit(main(MyVideos))                    # from data_prep.driver

The driver calls, always in this order and each in whatever process or machine it likes:

1. `sources()` in the driver. Raises UserError for a wrong call.
2. `survey(source)` once per source, if `surveyed` is True. The result is kept as JSON in the output folder,
   so it is done once even if the run is killed. `Rejected` rejects the whole source, and the report says
   so.
3. `plan(source, survey)`: a pure function; with an empty survey, a guess for `--dry_run`. Every
`clips_per_shard` clips of it become one shard,
   `{split}-{source.name}-{part:03d}.tar`, with its report beside it (`.json`).
4. `opened(source, survey, specs)`: a context manager around the clips of one shard, for example a video
   opened for reading forwards. What it yields is the first argument of `clip`.
5. `clip(reader, spec, source, survey)` for every spec in turn. It returns a `Clip`, ready to be stored
   (monocular films: `warped` and `hole`), or `Views`, which the driver matches by `--matcher` and stores.
   `Rejected(step, reason)` rejects the clip and nothing else. UserError rejects it too, with the step
   "error".

Everything must be deterministic: no time, no random state but from seeds made of the clip's key. A shard is
made anew from its first clip after a kill, and must have the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from data_prep.steps.video import Pair
from m2svid.data.shards import Clip
from m2svid.errors import UserError
from m2svid.warping.matching import DisparityRange

FORMAT = 1
"""Part of every hash: raised when the same settings give other shards than before."""

Facts = dict[str, Any]
"""Anything that JSON can hold."""


class Rejected(Exception):  # noqa: N818, a decision and no error
    """A clip, or a whole source, that doesn't become training data.

    Args:
        step: the step that decided, one word or two, such as "layout" or "vertical offset".
        reason: one sentence without a full stop, with the measured value and the limit. What comes before the
            first colon is the reason's name, by which reports count and `--retry` chooses, as in
            "missing: a.mp4 is not there".
    """

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(step, reason)
        self.step, self.reason = step, reason

    def __str__(self) -> str:
        return f"{self.step}: {self.reason}"


@dataclass(frozen=True)
class Source:
    """One video, from which clips are cut.

    Attributes:
        name: unique in the dataset, of letters, digits, "_" and "-": part of shard names and keys.
        path: the video; reports name it.
        facts: whatever the dataset knows of it, such as annotations.
        seconds: its length, as far as known without reading it.
        fps: frames per second, for the estimate of `--dry_run`.
        view: width and height of a view, for the same.
        video: name of the video in lists of `--hold_out`; `name` if empty.
    """

    name: str
    path: Path
    facts: Facts = field(default_factory=dict)
    seconds: float = 0.0
    fps: float = 30.0
    view: tuple[int, int] = (512, 512)
    video: str = ""


@dataclass(frozen=True)
class ClipSpec:
    """A clip to be made.

    Attributes:
        key: unique in the dataset, no dots, slashes or spaces; best begun with the source's name.
        begin: s from the video's first frame, exact; frames shown from then on belong to the clip ...
        end: ... and those before this moment.
        facts: whatever the dataset wants to know about it.
    """

    key: str
    begin: Fraction
    end: Fraction
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Views:
    """A row-aligned clip without its disparity; the driver matches it.

    Attributes:
        key: of the clip.
        pairs: T pairs of (H, W, 3) uint8, H and W even, all disparities in `search`.
        fps: exact frame rate.
        search: disparities to look for, pixels of these views. What is below 0 is taken for 0.
        notes: how the clip was made; anything that JSON can hold.
    """

    key: str
    pairs: Sequence[Pair]
    fps: Fraction
    search: DisparityRange
    notes: Facts = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Options shared by all datasets.

    Attributes:
        split: what the clips are for. With a list in `hold_out`, "train" takes the videos that are not on it,
            "val" and "test" take those that are.
        hold_out: text file (one name a line) or JSON with names of videos, or of clips of them, that never
            reach training shards.
        dataset: name stored with the clips; that of this command if empty.
        size: [width, height] of a view; None leaves it to the dataset.
        matcher: sgbm (OpenCV, CPU), raft (torchvision, one pair at a time) or bidastereo (published weights).
        matcher_weights: file of the matcher's weights; None takes torchvision's for raft.
        device: where a learned matcher runs; cuda when there is one.
        clips_per_shard: a shard holds at most that many clips of one video.
        crf: quality of the videos, x264's constant rate factor; 17 is visually lossless.
    """

    split: Literal["train", "val", "test"] = "train"
    hold_out: Path | None = None
    dataset: str = ""
    size: tuple[int, int] | None = None
    matcher: Literal["sgbm", "raft", "bidastereo"] = "sgbm"
    matcher_weights: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    clips_per_shard: int = 20
    crf: int = 17

    name: ClassVar[str]
    positional: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]] = ()
    surveyed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.size is not None and (min(self.size) < 2 or any(length % 2 for length in self.size)):
            raise UserError(f"--size must be two even numbers from 2 on, got {list(self.size)}")
        if self.clips_per_shard < 1:
            raise UserError(f"--clips_per_shard must be at least 1, got {self.clips_per_shard}")
        if not 0 <= self.crf <= 51:
            raise UserError(f"--crf must be from 0 to 51, got {self.crf}")

    def sources(self) -> list[Source]:
        """Find the videos; cheap, and in the same order every time. The driver leaves out those held out.

        Raises:
            UserError: a wrong call, such as a folder without videos.
        """
        raise NotImplementedError

    def survey(self, source: Source) -> Facts:
        """Look at a whole video once: layout, rectification, cuts.

        Raises:
            Rejected: nothing of this video can be used.
        """
        return {}

    def plan(self, source: Source, survey: Facts) -> list[ClipSpec]:
        """List the clips of a video in the order of their beginning; pure and quick.

        With an empty survey it is a guess, for `--dry_run`.
        """
        raise NotImplementedError

    def opened(self, source: Source, survey: Facts, specs: Sequence[ClipSpec]) -> AbstractContextManager[Any]:
        """Open what the clips of one shard share; `clip` gets what it yields.

        Raises:
            Rejected: none of them can be made.
        """
        return nullcontext()

    def clip(self, reader: Any, spec: ClipSpec, source: Source, survey: Facts) -> Clip | Views:
        """Make one clip.

        Raises:
            Rejected: it can't be used.
        """
        raise NotImplementedError

    def video_of(self, entry: str) -> str:
        """The video that an entry of `--hold_out` means: its name, its file's, or that of a clip of it."""
        return Path(entry).stem

    def settings(self) -> Facts:
        """Options that decide about the bytes of the shards."""
        skipped = {*self.inputs, "hold_out", "device"}
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in skipped}
        return json.loads(json.dumps(values, default=str)) | {"format": FORMAT, "kind": self.name}


def fingerprint(*values: Any) -> str:
    """A short hash of anything that JSON and str can tell."""
    text = json.dumps(values, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else str(value)
