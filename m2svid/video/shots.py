"""The survey of a film: times of its frames, and its shots."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from m2svid.errors import UserError
from m2svid.video.bars import BarFinder, Box
from m2svid.video.damage import damage
from m2svid.video.decode import KeyFrame, Notes
from m2svid.video.read import Frame, Video
from m2svid.video.times import misplaced, repaired, usable

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
    keys: frames at which reading can begin, by their numbers in the file.
    left_out: numbers in the file of frames that damage has put out of order.
    picture: inside of black bars; None = the whole frame.
    sound: nothing is wrong with the film, so every decoder gives the same frames.
    """

    times: tuple[int, ...]
    end: int
    shots: tuple[Shot, ...]
    keys: tuple[KeyFrame, ...] = ()
    left_out: tuple[int, ...] = ()
    picture: Box | None = None
    sound: bool = False

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Survey:
        """The survey of which `asdict` made this."""
        shots, keys = (Shot(**shot) for shot in kept["shots"]), (KeyFrame(**key) for key in kept["keys"])
        picture = None if kept["picture"] is None else Box(**kept["picture"])
        left_out = tuple(kept["left_out"])
        facts = tuple(kept["times"]), kept["end"], tuple(shots), tuple(keys), left_out, picture
        return cls(*facts, kept.get("sound", False))  # older folders don't say it

    def durations(self) -> list[int]:
        """Duration of every frame, in units of the time base."""
        return [later - time for time, later in pairwise([*self.times, self.end])]

    def frames(self, video: Video, start: int) -> Iterator[Frame]:
        """The frames from number `start` on.

        Raises:
            UserError: there are fewer than the survey has seen.
        """
        left_out = set(self.left_out)
        numbers = [index for index in range(len(self.times) + len(left_out)) if index not in left_out]
        index = start
        for frame in video.frames(numbers[start], self.keys, on_device=self.sound):
            if frame.index not in left_out:
                yield replace(frame, index=index)
                index += 1
        if index < len(self.times):
            raise UserError(
                f"{video.path} ends after {index} frames where it had {len(self.times)} before: was it "
                "changed? Give --restart to begin again"
            )


def survey(video: Video, find_cuts: bool = True, on_frame: Callable[[], None] | None = None) -> Survey:
    """Read the whole film once, quickly; what is damaged is told.

    Args:
        video: the film.
        find_cuts: False takes the film as one shot.
        on_frame: called after every frame.

    Raises:
        UserError: the film can't be read or has no frame, or cuts can't be looked for.
    """
    detect = _cut_detector(float(video.info.rate)) if find_cuts else None
    own: list[int | None] = []
    cuts: list[int] = []
    keys: list[KeyFrame] = []
    patched: list[int] = []
    notes, finder = Notes(), BarFinder()
    duration = combed = 0
    for frame in video.frames(notes=notes):
        if detect is not None:
            cuts += detect(frame)
        own.append(frame.pts)
        if frame.raw.key_frame and frame.pts is not None:
            keys.append(KeyFrame(frame.index, frame.pts))
        if frame.raw.is_corrupt:
            patched.append(frame.index)
        if video.autocrop:
            finder.look(frame.raw)
        combed += frame.raw.interlaced_frame
        duration = frame.raw.duration or 0
        if on_frame is not None:
            on_frame()
    if not own:
        raise UserError(f"{video.path} has no frame")
    period = 1 / (video.info.rate * video.info.time_base)
    left_out = misplaced(own, usable(own), period)
    numbers = [index for index in range(len(own)) if index not in set(left_out)]
    own = [own[index] for index in numbers]
    kept = usable(own)
    start = round(video.info.start / video.info.time_base)
    times = tuple(time - start for time in repaired(own, kept, period))
    if len(kept) < len(own):
        unusable = f"{len(own) - len(kept)} of {len(own)} frames have no usable time"
        log.warning("%s: %s; they are put evenly between the others", video.path, unusable)
    faults = damage(video, times, [bisect_left(numbers, index) for index in patched], notes)
    for line in faults:
        log.warning(line)
    bounds = [0, *sorted({bisect_left(numbers, cut) for cut in cuts}), len(times)]
    shots = tuple(Shot(index, *bound) for index, bound in enumerate(pairwise(bounds)))
    end = times[-1] + (duration or max(1, round(period)))
    if combed:
        text = "interlaced: give --deinterlace, or both views will be combed"
        log.warning("%s: %d of %d frames are %s", video.path, combed, len(times), text)
    picture = finder.find(video.info.orientation.apply) if video.autocrop else None
    good = {numbers[index] for index in kept}
    keys = [key for key in keys if key.index in good]
    sound = not (faults or left_out or notes.lost)
    return Survey(times, end, shots, tuple(keys), tuple(left_out), picture, sound)


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
