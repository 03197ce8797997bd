"""Turn rectified stereo videos, side by side or top-bottom, into shards."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

from data_prep.dataset import ClipSpec, Dataset, Facts, Source, Views
from data_prep.driver import main
from data_prep.steps.checks import Halves, check_pairs, find_halves
from data_prep.steps.reading import ForwardReader, even_clips, find_videos, video_source
from data_prep.steps.video import Layout, resize_view
from data_prep.steps.views import positive_views
from m2svid.errors import UserError

_SURVEYED = 8  # moments of a video that are looked at


@dataclass(frozen=True, kw_only=True)
class StereoVideos(Dataset):
    """Rectified stereo videos.

    Attributes:
        videos: videos, or folders with videos in them.
        layout: left view left and right view right, or left view above right view; detected if not given.
        swap_eyes: the views are the other way round; detected by occlusions if not given.
        clip_seconds: length of a clip; all frames are used, so clips may be up to half as long again.
        max_disparity: largest disparity looked for, pixels of a view; found for each clip if not given.
        max_vertical_offset: videos are rejected of which a quarter of the matched points is farther apart,
            pixels.
        size: [width, height] to which a view is resized first; None leaves it. For half-width side-by-side
            videos give the full width.
    """

    videos: list[Path]
    layout: Layout | None = None
    swap_eyes: bool | None = None
    clip_seconds: float = 5.0
    max_disparity: int | None = None
    max_vertical_offset: float = 2.0

    name: ClassVar[str] = "stereo_video"
    positional: ClassVar[str] = "videos"
    inputs: ClassVar[tuple[str, ...]] = ("videos",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip_seconds <= 0:
            raise UserError(f"--clip_seconds must be positive, got {self.clip_seconds}")
        if self.max_disparity is not None and self.max_disparity < 1:
            raise UserError(f"--max_disparity must be at least 1 px, got {self.max_disparity}")

    def sources(self) -> list[Source]:
        """Every video found."""
        return [video_source(name, path) for name, path in find_videos(self.videos).items()]

    def survey(self, source: Source) -> Facts:
        """Find layout and eye order, and check that it is row-aligned stereo."""
        frames = [frame.rgb() for frame in ForwardReader(source.path).sample(_SURVEYED)]
        halves = find_halves(frames, self.layout, self.swap_eyes)
        check_pairs([halves.views(frame) for frame in frames], self.max_vertical_offset)
        seen = {} if halves.order is None else {"eye_order_seen_by": str(halves.order)}
        return {"layout": halves.layout, "swapped_eyes": halves.swapped} | seen

    def plan(self, source: Source, survey: Facts) -> list[ClipSpec]:
        """Cut the whole video into clips of about one length."""
        if not source.facts:
            return []
        rate, frames = Fraction(source.facts["rate"]), source.facts["frames"]
        return even_clips(source.name, frames, rate, self.clip_seconds)

    def opened(
        self, source: Source, survey: Facts, specs: Sequence[ClipSpec]
    ) -> AbstractContextManager[ForwardReader]:
        """The video, read forwards."""
        return nullcontext(ForwardReader(source.path))

    def clip(self, reader: ForwardReader, spec: ClipSpec, source: Source, survey: Facts) -> Views:
        """Halve the frames and shift the views until all disparities are positive."""
        halves = Halves(survey["layout"], survey["swapped_eyes"], None)
        pairs = [halves.views(frame.rgb()) for frame in reader.between(spec.begin, spec.end)]
        if self.size is not None:
            pairs = [(resize_view(left, self.size), resize_view(right, self.size)) for left, right in pairs]
        return positive_views(spec.key, pairs, reader.info.rate, survey, self.max_disparity)


if __name__ == "__main__":
    sys.exit(main(StereoVideos))
