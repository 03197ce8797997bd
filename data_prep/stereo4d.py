"""Turn Stereo4D's annotations and videos into shards of rectified stereo clips.

The release has annotations only; the videos come from elsewhere, as raw VR180 files named by their video id,
or as finished `<clip>-left_rectified.mp4` and `<clip>-right_rectified.mp4` (also in tars).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, get_args

import numpy as np

from data_prep.dataset import ClipSpec, Dataset, Facts, Rejected, Source, Views
from data_prep.driver import main
from data_prep.steps.annotations import (
    Annotation,
    checked_times,
    rate_of,
    read_annotations,
    seconds,
    video_id_of,
    write_manifest,
)
from data_prep.steps.checks import check_pairs
from data_prep.steps.equirectangular import Perspective, Sphere, focal_length
from data_prep.steps.eye_order import eye_order
from data_prep.steps.reading import ForwardReader
from data_prep.steps.search_range import find_disparities
from data_prep.steps.stereo4d_videos import Stereo4DVideos, find_stereo4d_videos, unpacked
from data_prep.steps.video import Layout, Pair, resize_view, split_views
from data_prep.steps.views import MATCHING_SHARE, positive_views
from m2svid.errors import UserError

_SURVEYED = 4  # clips of a video, a moment of each
_CLEAR = 2.5  # standard deviations of the vote on the eyes' order
_NEGATIVE = 0.1  # of the pixels with a positive disparity: a rectified rig sees nothing beyond infinity


@dataclass(frozen=True, kw_only=True)
class Stereo4D(Dataset):
    """Stereo4D.

    Attributes:
        annotations: folders of npz, tars of npz, or slim manifests (.jsonl, .jsonl.gz); paths or URLs.
        videos: folder (with subfolders) of raw videos, their names beginning with the video id or holding it
            in brackets, or of rectified pairs of videos, plain or in tars.
        manifest: write a slim manifest of the annotations here, to be given in their place next time.
        size: [width, height] of a view.
        fov: angle over the width of a view, degrees.
        min_detail: raw pixels for a pixel in the middle of a view; coarser videos are rejected.
        max_vertical_offset: videos are rejected of which a quarter of the matched points is farther apart,
            pixels.
    """

    annotations: list[str]
    videos: Path
    manifest: Path | None = None
    size: tuple[int, int] = (512, 512)
    fov: float = 60.0
    min_detail: float = 0.9
    max_vertical_offset: float = 2.0

    name: ClassVar[str] = "stereo4d"
    positional: ClassVar[str] = "annotations"
    inputs: ClassVar[tuple[str, ...]] = ("annotations", "videos", "manifest")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.fov < 180:
            raise UserError(f"--fov must be above 0 and below 180 degrees, got {self.fov:g}")

    def video_of(self, entry: str) -> str:
        """Lists name videos, `<id>_<time>` or `<id>-clipN`."""
        return video_id_of(entry)

    def sources(self) -> list[Source]:
        """One per annotated video, there or not."""
        annotations = read_annotations(self.annotations)
        if self.manifest is not None:
            write_manifest(self.manifest, annotations)
        files = find_stereo4d_videos(self.videos)
        return [
            self._source(video_id, list(clips), files)
            for video_id, clips in groupby(annotations, lambda annotation: annotation.video_id)
        ]

    def _source(self, video_id: str, clips: list[Annotation], files: Stereo4DVideos) -> Source:
        raw = files.raw.get(video_id)
        facts: Facts = {"clips": [asdict(clip) for clip in clips]}
        pairs = {clip.name: files.pairs[clip.name] for clip in clips if clip.name in files.pairs}
        if raw is None and pairs:
            facts["pairs"] = pairs
        timed = [clip.timestamps for clip in clips if len(clip.timestamps) > 1]
        length = sum(float(times[-1] - times[0]) for times in timed) / 1e6
        fps = 1e6 / float(timed[0][1] - timed[0][0]) if timed else 30.0
        return Source(video_id, raw or self.videos / f"{video_id}.mp4", facts, length, fps, self.size)

    def survey(self, source: Source) -> Facts:
        """Find how the eyes lie in the raw picture, and check detail, alignment and eye order."""
        if "pairs" in source.facts:
            return {"layout": "pairs"}
        if not source.path.exists():
            raise Rejected("read", f"missing: there is no video of {source.name} in {self.videos}")
        reader = ForwardReader(source.path)
        clips = [clip for clip in source.facts["clips"] if not clip["problem"]]
        chosen = clips[:: max(1, -(-len(clips) // _SURVEYED))]
        seen = []
        for clip in chosen:
            with suppress(Rejected):  # its clip is rejected when its turn comes
                middle = clip["timestamps"][len(clip["timestamps"]) // 2]
                seen.append((next(reader.at([seconds(middle)])).rgb(), clip))
        if not seen:
            raise Rejected("read", f"no frame: none of the annotated moments is in {source.path}")
        layout, pairs = self._find_layout(source.path, *zip(*seen, strict=True))
        check_pairs(pairs, self.max_vertical_offset)
        order = eye_order(pairs, find_disparities(pairs).search)
        unlikely = order.positive < _NEGATIVE and order.occlusion < _CLEAR
        if order.occlusion < -_CLEAR or unlikely:
            raise Rejected("layout", f"swapped eyes: {source.path} has the right eye's view first ({order})")
        return {"layout": layout}

    def _find_layout(
        self, path: Path, frames: Sequence[np.ndarray], clips: Sequence[Facts]
    ) -> tuple[Layout, list[Pair]]:
        found: dict[Layout, tuple[float, list[Pair]]] = {}
        for layout in get_args(Layout):
            if frames[0].shape[1 if layout == "side-by-side" else 0] % 2:
                continue
            pairs = [
                _Rectifier(clip, split_views(frame, layout)[0].shape, self)(split_views(frame, layout))
                for frame, clip in zip(frames, clips, strict=True)
            ]
            found[layout] = find_disparities(pairs).consistent, pairs
        layout = max(found, key=lambda name: found[name][0], default=None)
        height, width = frames[0].shape[:2]
        if layout is None or found[layout][0] < MATCHING_SHARE:
            shares = ", ".join(f"{share:.1%} {name}" for name, (share, _) in found.items())
            raise Rejected(
                "layout",
                f"no stereo: {path} ({width}×{height}) is mono or laid out otherwise; of the views "
                f"only {shares or 'nothing'} agrees, stereo pairs have more than {MATCHING_SHARE:.0%}",
            )
        detail = min(
            _sphere(clips[0], split_views(frames[0], layout)[0].shape).detail(
                focal_length(self.size[0], self.fov)
            )
        )
        if detail < self.min_detail:
            raise Rejected(
                "layout",
                f"too small: {path} is {width}×{height}, {detail:.2f} raw pixels for one in the middle of a "
                f"view, --min_detail asks for {self.min_detail:g}",
            )
        return layout, found[layout][1]

    def plan(self, source: Source, survey: Facts) -> list[ClipSpec]:
        """The annotated clips."""
        specs = []
        for index, clip in enumerate(source.facts["clips"]):
            times = clip["timestamps"]
            end = seconds(times[-1]) + seconds(times[-1] - times[-2]) if len(times) > 1 else Fraction(0)
            begin = seconds(times[0]) if len(times) else Fraction(0)
            specs.append(ClipSpec(clip["name"], begin, end, {"index": index}))
        return specs

    @contextmanager
    def opened(
        self, source: Source, survey: Facts, specs: Sequence[ClipSpec]
    ) -> Iterator[ForwardReader | None]:
        """The raw video, read forwards; nothing for finished pairs."""
        yield ForwardReader(source.path) if survey["layout"] != "pairs" else None

    def clip(self, reader: ForwardReader | None, spec: ClipSpec, source: Source, survey: Facts) -> Views:
        """Rectify both views, or read finished ones."""
        annotation = source.facts["clips"][spec.facts["index"]]
        times = checked_times(annotation)
        step = Fraction(int(times[-1] - times[0]), 1_000_000 * (len(times) - 1))
        notes: Facts = {"video_id": source.name, "first_timestamp": int(times[0]), "fov": self.fov}
        if reader is None:
            pairs = self._finished(source, spec, len(times))
            return positive_views(spec.key, pairs, rate_of(step), notes | {"rectified_by": "others"})
        fps = rate_of(step, reader.info.rate)
        frames = reader.at([seconds(time) for time in times])
        pairs, rectify = [], None
        for frame in frames:
            halves = split_views(frame.rgb(), survey["layout"])
            rectify = rectify or _Rectifier(annotation, halves[0].shape, self)
            pairs.append(rectify(halves))
        if rectify.outside > 0:
            raise Rejected("view", f"outside: {rectify.outside:.1%} of the view is not in the raw picture")
        return positive_views(spec.key, pairs, fps, notes | {"layout": survey["layout"]})

    def _finished(self, source: Source, spec: ClipSpec, frames: int) -> list[Pair]:
        places = source.facts["pairs"].get(spec.key, {})
        if set(places) != {"left", "right"}:
            there = " and ".join(places) or "none"
            raise Rejected("read", f"missing: of the rectified views of {spec.key} there is {there}")
        with TemporaryDirectory() as folder:
            views = []
            for eye in ("left", "right"):
                reader = ForwardReader(unpacked(places[eye], Path(folder)))
                length = (frames + 1) / reader.info.rate  # by the file's own clock, which is always 30 fps
                views.append(
                    [resize_view(frame.rgb(), self.size) for frame in reader.between(Fraction(0), length)]
                )
        if not len(views[0]) == len(views[1]) == frames:
            raise Rejected(
                "read",
                f"length: {spec.key} has {len(views[0])} left and {len(views[1])} right frames, "
                f"its annotation {frames}",
            )
        return list(zip(*views, strict=True))


class _Rectifier:
    """Both eyes' views of one clip."""

    def __init__(self, annotation: Facts, shape: tuple[int, ...], dataset: Stereo4D) -> None:
        sphere = _sphere(annotation, shape)
        rotations = np.asarray(annotation["rectified2rig"])
        self._eyes = [Perspective(sphere, rotation, dataset.size, dataset.fov) for rotation in rotations]
        self.outside = max(eye.outside for eye in self._eyes)

    def __call__(self, halves: Pair) -> Pair:
        left, right = (eye(picture) for eye, picture in zip(self._eyes, halves, strict=True))
        return left, right


def _sphere(annotation: Facts, shape: tuple[int, ...]) -> Sphere:
    return Sphere(*annotation["fov_bounds"], width=shape[1], height=shape[0])


if __name__ == "__main__":
    sys.exit(main(Stereo4D))
