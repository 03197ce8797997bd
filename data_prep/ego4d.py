"""Turn Ego4D's stereo videos, which nobody calibrated, into shards of row-aligned clips.

Paper, Section 5.5 and Appendix B.2. Shapes: T frames, H W pixels of a view.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from data_prep.dataset import ClipSpec, Dataset, Facts, Rejected, Source, Views
from data_prep.driver import main
from data_prep.steps.devices import pick_device
from data_prep.steps.points import Matches, PointMatcher, open_matchers
from data_prep.steps.reading import ForwardReader, even_clips, video_facts
from data_prep.steps.rectification import Limits, Rectification, UnrectifiableError
from data_prep.steps.shift import crop_even
from data_prep.steps.uncalibrated import pooled_inliers, rectify
from data_prep.steps.video import Pair, resize_view, split_views
from data_prep.steps.views import positive_views
from m2svid.errors import UserError
from m2svid.files import whole

log = logging.getLogger(__name__)

_BLANK = 4.0  # of 255, standard deviation: such a frame shows nothing
_TYPICAL_VIEW = (922, 720)  # px, the median of the published crops at the default --short_side; for estimates
_RATE = "30"  # frames per second of most of its videos; for estimates
_FAR_QUANTILE = 0.001  # of a clip's matched points, which may be mismatches; paper's code
_VERTICAL_QUANTILE = 0.95  # of a clip's matched points; the others may be mismatches


@dataclass(frozen=True)
class _Opened:
    """Data shared by the clips of a shard."""

    video: ForwardReader
    matchers: Sequence[PointMatcher]


@dataclass(frozen=True, kw_only=True)
class Ego4D(Dataset):
    """Options of Ego4D.

    Attributes:
        videos: folders with the videos, `{video_uid}.mp4`.
        metadata: `ego4d.json`, which tells which videos are stereo.
        rectifications: folder of rectifications in the published format, `{video_uid}.mp4.json`. Those that
            are there are taken if they keep the limits below; others are found, and written where there is
            none. None finds all.
        points: finds the points by which views are rectified and checked: sift (no download), efficientloftr
            or efficientloftr:FOLDER_OR_ID, loftr (outdoor and indoor weights, the better of both, as in the
            paper) or loftr:FOLDER.
        frames_matched: frames, spread over a whole video, by which it is rectified; the paper's 200.
        clip_seconds: length of a clip; all frames are used, so clips may be up to half as long again.
        short_side: height or width, whichever is smaller, to which rectified views are made smaller; None
            leaves them. `size`, if given, is cut out of the middle instead.
        max_vertical_offset: clips of which 5 % of the matched points are farther apart vertically are
            rejected, pixels.
        max_stretch: largest factor by which a rectification may change the scale of a view from one place to
            another.
        min_crop: smallest share of a view that a rectification may leave.
    """

    videos: list[Path]
    metadata: Path
    rectifications: Path | None = None
    points: str = "sift"
    frames_matched: int = 200
    clip_seconds: float = 5.0
    short_side: int | None = 720
    max_vertical_offset: float = 2.0
    max_stretch: float = 2.0
    min_crop: float = 0.25

    name: ClassVar[str] = "ego4d"
    positional: ClassVar[str] = "videos"
    inputs: ClassVar[tuple[str, ...]] = ("videos", "metadata", "rectifications")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("frames_matched", "clip_seconds", "max_vertical_offset"):
            if getattr(self, name) <= 0:
                raise UserError(f"--{name} must be positive, got {getattr(self, name)}")
        if self.short_side is not None and self.short_side < 16:
            raise UserError(f"--short_side must be at least 16 px, got {self.short_side}")
        if self.max_stretch < 1 or not 0 <= self.min_crop <= 1:
            raise UserError(
                f"--max_stretch must be at least 1 and --min_crop a share, got {self.max_stretch} and "
                f"{self.min_crop}"
            )

    def sources(self) -> list[Source]:
        """The stereo videos of the metadata."""
        return [
            Source(uid, self._file(uid), seconds=seconds, view=_TYPICAL_VIEW)
            for uid, seconds in sorted(stereo_videos(self.metadata).items())
        ]

    def _file(self, uid: str) -> Path:
        """The video in whichever folder has it; where none has it, in the first."""
        files = [folder / f"{uid}.mp4" for folder in self.videos]
        return next((file for file in files if file.is_file()), files[0])

    def video_of(self, entry: str) -> str:
        """Lists name videos, or clips of them: `{video_uid}_clip_0001.mp4` as published, or
        `{video_uid}-0001`."""
        return re.sub(r"(_clip_|-)\d{4}$", "", super().video_of(entry))

    def survey(self, source: Source) -> Facts:
        """Find how the views are row-aligned."""
        if not source.path.is_file():
            raise Rejected("video", f"missing: {source.path} is not there")
        facts = video_facts(source.path)
        found = self._published(source, _view_size((facts.width, facts.height))) or self._fitted(
            source, facts.frames
        )
        return found | {"frames": facts.frames, "rate": str(facts.rate)}

    def plan(self, source: Source, survey: Facts) -> list[ClipSpec]:
        """Cut the whole video into clips of about one length."""
        rate = Fraction(survey.get("rate", _RATE))
        frames = survey.get("frames", round(source.seconds * rate))
        return even_clips(source.name, frames, rate, self.clip_seconds)

    @contextmanager
    def opened(self, source: Source, survey: Facts, specs: Sequence[ClipSpec]) -> Iterator[_Opened]:
        """The video, read forwards, and the point matchers."""
        yield _Opened(ForwardReader(source.path), open_matchers(self.points, pick_device(self.device)))

    def clip(self, reader: _Opened, spec: ClipSpec, source: Source, survey: Facts) -> Views:
        """Rectify, check that rows are aligned, and shift until all disparities are positive."""
        rectification = Rectification.from_json(survey, f"the survey of {source.path}")
        pairs = [
            self._resized(rectification.apply(views_of(frame.rgb())))
            for frame in reader.video.between(spec.begin, spec.end)
        ]
        fps = Fraction(survey["rate"])
        matches = self._row_aligned(reader.matchers, pairs[:: max(1, round(fps))])  # the paper's 1 fps
        low, high = np.quantile(matches.disparity, [_FAR_QUANTILE, 1 - _FAR_QUANTILE])
        notes = {"rectified_by": survey["method"], "vertical_offset_px": round(_offset(matches), 2)}
        return positive_views(spec.key, pairs, fps, notes, points=(float(low), float(high)))

    def _published(self, source: Source, size: tuple[int, int]) -> Facts | None:
        """A rectification that is there already, unless it breaks the limits."""
        path = self._rectification_file(source)
        if path is None or not path.is_file():
            return None
        found = Rectification.load(path)
        try:
            found.check(size, self._limits)
        except UnrectifiableError as error:
            log.warning("%s is not used, another one is found: %s", path, error)
            return None
        return found.to_json() | {"method": "file"}

    def _fitted(self, source: Source, frames: int) -> Facts:
        """A new one, from matches over the whole video."""
        count = min(self.frames_matched, frames)
        views = [views_of(frame.rgb()) for frame in ForwardReader(source.path).sample(count)]
        pairs = [pair for pair in views if min(view.std() for view in pair) > _BLANK]
        if not pairs:
            raise Rejected("rectification", f"blank: nothing is seen in {len(views)} frames of the video")
        try:
            matches, fundamental, matcher = best_inliers(
                open_matchers(self.points, pick_device(self.device)), pairs
            )
            size = pairs[0][0].shape[1::-1]
            found, method = rectify(matches, fundamental, size, self._limits)
        except UnrectifiableError as error:
            raise Rejected("rectification", str(error)) from error
        log.info("%s: rectified by %s (%s, %d inliers)", source.path, method, matcher, len(matches))
        path = self._rectification_file(source)
        if path is not None and not path.exists():
            with whole(path) as temporary:
                temporary.write_text(json.dumps(found.to_json()))
        return found.to_json() | {"method": f"{matcher}, {method}", "inliers": len(matches)}

    def _rectification_file(self, source: Source) -> Path | None:
        return self.rectifications and self.rectifications / f"{source.path.name}.json"

    @property
    def _limits(self) -> Limits:
        return Limits(self.max_stretch, self.min_crop)

    def _row_aligned(self, matchers: Sequence[PointMatcher], pairs: Sequence[Pair]) -> Matches:
        """Matched points of a clip, none of which is far from its row, but for a few mismatches."""
        try:
            matches, *_ = best_inliers(matchers, pairs)
        except UnrectifiableError as error:
            raise Rejected("vertical offset", str(error)) from error
        if _offset(matches) > self.max_vertical_offset:
            raise Rejected(
                "vertical offset",
                f"not row-aligned: {1 - _VERTICAL_QUANTILE:.0%} of the matched points are more than "
                f"{_offset(matches):.1f} px apart vertically, {self.max_vertical_offset:g} px are the most",
            )
        return matches

    def _resized(self, pair: Pair) -> Pair:
        height, width = pair[0].shape[:2]
        if self.size is not None:
            scale = max(self.size[0] / width, self.size[1] / height)
        elif self.short_side is not None:
            scale = min(1.0, self.short_side / min(height, width))
        else:
            return crop_even(pair)
        size = (max(round(width * scale), 2), max(round(height * scale), 2))
        left, right = (resize_view(view, size) for view in pair)
        if self.size is None:
            return crop_even((left, right))
        first, top = (size[0] - self.size[0]) // 2, (size[1] - self.size[1]) // 2
        middle = (slice(top, top + self.size[1]), slice(first, first + self.size[0]))
        return left[middle], right[middle]


def stereo_videos(metadata: Path) -> dict[str, float]:
    """Read the ids of the stereo videos in `ego4d.json`, and how long they are in seconds.

    Raises:
        UserError: the file is another one, or lists no stereo video.
    """
    try:
        videos = json.loads(metadata.read_text())["videos"]
        found = {
            str(video["video_uid"]): float(video["duration_sec"]) for video in videos if video["is_stereo"]
        }
    except OSError as error:
        raise UserError(f"{metadata} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{metadata} is not Ego4D's ego4d.json: it needs a list `videos` with video_uid, duration_sec "
            "and is_stereo"
        ) from error
    if not found:
        raise UserError(f"{metadata} lists no stereo video (is_stereo) among {len(videos)}")
    return found


def views_of(frame: NDArray[np.uint8]) -> Pair:
    """Left and right view of a frame (H, 2·W, 3). A frame that is taller than wide was stored with its sizes
    exchanged, as some of Ego4D's are, and is stretched back."""
    height, width = frame.shape[:2]
    if height > width:
        frame = resize_view(frame, (height, width))
    return split_views(frame[:, : frame.shape[1] // 2 * 2], "side-by-side")


def _view_size(frame: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a view in a frame of this width and height."""
    return max(frame) // 2, min(frame)


def best_inliers(
    matchers: Sequence[PointMatcher], pairs: Sequence[Pair]
) -> tuple[Matches, NDArray[np.float64], str]:
    """Inliers of the matcher that finds most, their fundamental matrix, and its name.

    Raises:
        UnrectifiableError: none finds enough; gives the last one's reason.
    """
    found = []
    failure = UnrectifiableError("no matcher")
    for matcher in matchers:
        try:
            found.append((*pooled_inliers(matcher, pairs), matcher.name))
        except UnrectifiableError as error:
            failure = error
    if not found:
        raise failure
    return max(found, key=lambda result: len(result[0]))


def _offset(matches: Matches) -> float:
    """Vertical distance of matched points, px: the largest without the farthest 5 %."""
    return float(np.quantile(np.abs(matches.vertical), _VERTICAL_QUANTILE))


if __name__ == "__main__":
    sys.exit(main(Ego4D))
