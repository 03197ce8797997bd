"""The survey of a film: times of its frames, and its shots."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from m2svid.errors import UserError
from m2svid.video.read import Frame, Video

log = logging.getLogger(__name__)

_LOOK_WIDTH = 256  # px; cuts are seen as well in small frames, and quicker


@dataclass(frozen=True)
class Shot:
    """Frames `start` to `stop` (excluded) without a cut."""

    index: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Survey:
    """Attributes:
    times: presentation time of every frame, in units of the video's time base, increasing.
    end: when the last frame ends.
    shots: cover all frames.
    """

    times: tuple[int, ...]
    end: int
    shots: tuple[Shot, ...]

    def durations(self) -> list[int]:
        """Duration of every frame, in units of the time base."""
        return [later - time for time, later in pairwise([*self.times, self.end])]


def survey(video: Video, find_cuts: bool = True, on_frame: Callable[[], None] | None = None) -> Survey:
    """Read the whole film once, quickly.

    Args:
        video: the film.
        find_cuts: False takes the film as one shot.
        on_frame: called after every frame.

    Raises:
        UserError: the film is damaged or has no frame, or cuts can't be looked for.
    """
    detect = _cut_detector(float(video.info.rate)) if find_cuts else None
    times: list[int | None] = []
    cuts: list[int] = []
    duration = 0
    for frame in video.frames():
        if detect is not None:
            cuts += detect(frame)
        times.append(frame.pts)
        duration = frame.raw.duration or 0
        if on_frame is not None:
            on_frame()
    if not times:
        raise UserError(f"{video.path} has no frame")
    if len(times) < video.info.frames:
        log.warning(
            "%s announces %d frames, but only %d can be read: is it complete?",
            video.path,
            video.info.frames,
            len(times),
        )
    exact = _increasing(times, video)
    period = round(1 / (video.info.rate * video.info.time_base))
    bounds = [0, *sorted(set(cuts)), len(times)]
    shots = tuple(Shot(index, *bound) for index, bound in enumerate(pairwise(bounds)))
    return Survey(exact, exact[-1] + (duration or max(1, period)), shots)


def _cut_detector(rate: float) -> Callable[[Frame], list[int]]:
    """A function that is shown all frames in order and returns the cuts found so far, by frame number."""
    try:
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector
    except ModuleNotFoundError as error:
        raise UserError(
            "looking for cuts needs another package: pip install 'm2svid[convert]', or give --cuts false to "
            "take the film as one shot"
        ) from error
    detector = AdaptiveDetector(min_scene_len=5)

    def detect(frame: Frame) -> list[int]:
        moment = FrameTimecode(frame.index, fps=rate)
        return [cut.frame_num for cut in detector.process_frame(moment, frame.small_bgr(_LOOK_WIDTH))]

    return detect


def _increasing(times: list[int | None], video: Video) -> tuple[int, ...]:
    """The frames' own times; where a file has none, those of its constant rate."""
    known = [time for time in times if time is not None]
    if len(known) == len(times) and all(time < later for time, later in pairwise(known)):
        return tuple(known)
    log.warning(
        "%s has frames without a usable time: its frame rate of %s is used", video.path, video.info.rate
    )
    return tuple(round(index / (video.info.rate * video.info.time_base)) for index in range(len(times)))
