"""A device's assembly line: while frames are made, the next are decoded and those before are encoded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import cycle, pairwise
from typing import Any

import torch

from m2svid.convert.makers import Maker, Pictures
from m2svid.convert.overlap import Worker, ahead, side_by_side
from m2svid.convert.report import Advance, Event, Reporter
from m2svid.convert.task import Task
from m2svid.convert.work_folder import WorkFolder
from m2svid.depth.shot import ShotDepth
from m2svid.inference.windows import Window
from m2svid.video.pictures import Pixels
from m2svid.video.read import Frame
from m2svid.video.shots import Shot, Survey
from m2svid.video.sliding import Sliding
from m2svid.video.write import PicturePiece, PieceWriter

_BEHIND = 4  # frames that an encoder may be behind
_SMALL = 1 << 23  # px of a picture; encoders of larger ones, which take much memory, end one at a time

Pieces = dict[str, PieceWriter | PicturePiece]
Windows = list[tuple[Window, Window | None]]  # each with the one that follows it


@dataclass(frozen=True)
class _Ready:
    """A window whose frames are made together, and which is prepared.

    Attributes:
        window: the window.
        kept: frames at its end that the next window needs.
        prepared: by the maker.
        depth: of the shot, where the window is its last.
    """

    window: Window
    kept: int
    prepared: Any
    depth: ShotDepth | None


@dataclass(frozen=True)
class _Place:
    """The place of a frame in the windows of the film.

    Attributes:
        window: that emits it.
        is_last: of those that the window emits.
        depth: of the shot, where the window is its last.
    """

    window: Window
    is_last: bool
    depth: ShotDepth | None


Made = Iterator[tuple[_Place, Pictures]]


class _StoppedError(Exception):
    """The run has failed or was interrupted."""


class Line:
    """Make the windows of shots with one maker, and keep each when it is finished.

    A thread decodes, estimates depth and warps the next window of frames that are made together, while the
    caller's makes one; models of depth and views take turns. Frames that are made alone stream: the caller's
    thread decodes, and as many as torch has make their pictures, of one frame more than there are threads at
    a time. Two threads encode, each every other window: while one ends, the other begins.

    Args:
        task: what to make.
        work: keeps the pieces.
        film: the survey.
        maker: of the windows.
        report: told what happens.
        advance: told of finished frames.
    """

    def __init__(
        self, task: Task, work: WorkFolder, film: Survey, maker: Maker, report: Reporter, advance: Advance
    ) -> None:
        self._task, self._work, self._film, self._maker = task, work, film, maker
        self._report, self._advance = report, advance
        self._device = nullcontext() if maker.memory is None else threading.Lock()
        encodings = [target.encoding for target in task.targets.values()]
        small = all(each is None or each.width * each.height <= _SMALL for each in encodings)
        self._ending = nullcontext() if small else threading.Lock()
        self._stopped = threading.Event()
        self._frames = Sliding[Frame](partial(film.frames, task.video))

    def run(self, waiting: deque[list[Window]]) -> None:
        """Take the windows of one shot after the other until there are none.

        Raises:
            UserError: as of `Runner.run`; what is finished by then is kept.
        """
        made = self._together(waiting) if self._maker.together else self._alone(waiting)
        with closing(self._frames), Worker(_BEHIND) as one, Worker(_BEHIND) as other, closing(made):
            encoders = cycle([one, other])
            encoder, pieces = next(encoders), Pieces()
            before: Future[None] | None = None
            try:
                for place, pictures in made:
                    encoder.do(self._add, place.window, pieces, pictures)
                    if place.is_last:
                        before = encoder.do(self._finish, place, pieces, before)
                        encoder, pieces = next(encoders), Pieces()
                one.wait()
                other.wait()
            except BaseException:
                self._stopped.set()
                raise

    def _together(self, waiting: deque[list[Window]]) -> Made:
        with closing(ahead(self._prepared(waiting))) as prepared:
            for ready in prepared:
                window = ready.window
                shared = self._work.load_tail(window.index - 1) if window.shared else None
                with self._device:
                    pictures, made = self._maker.make(window, ready.prepared, shared)
                if ready.kept:
                    self._work.save_tail(window.index, made[:, -ready.kept :])
                for count, views in enumerate(pictures, 1):
                    yield _Place(window, count == window.num_emitted, ready.depth), views

    def _alone(self, waiting: deque[list[Window]]) -> Made:
        def work(job: tuple[_Place, Callable[[], Pictures]]) -> tuple[_Place, Pictures]:
            place, task = job
            return place, task()

        with closing(side_by_side(work, self._jobs(waiting), torch.get_num_threads())) as done:
            yield from done

    def _shots(self, waiting: deque[list[Window]]) -> Iterator[tuple[Windows, ShotDepth | None]]:
        """The windows of each shot that are not done, and its depth."""
        while True:
            try:
                windows = waiting.popleft()
            except IndexError:
                return
            undone = [
                pair for pair in pairwise([*windows, None]) if not is_done(self._task, self._work, pair[0])
            ]
            if undone:
                shot = self._film.shots[windows[0].shot]
                text = f"shot {shot.index + 1}: frames {shot.start} to {shot.stop - 1}"
                self._report.say(Event("shot", text, {"shot": shot.index}))
                yield undone, None if self._maker.depth is None else self._depth_of(shot)

    def _jobs(self, waiting: deque[list[Window]]) -> Iterator[tuple[_Place, Callable[[], Pictures]]]:
        for windows, depth in self._shots(waiting):
            for window, _ in windows:
                ending = depth if window is windows[-1][0] else None
                for index in range(window.start, window.stop):
                    (frame,) = self._frames.get(index, index + 1)
                    place = _Place(window, index == window.stop - 1, ending)
                    yield place, self._maker.task(window, frame, depth)

    def _prepared(self, waiting: deque[list[Window]]) -> Iterator[_Ready]:
        for windows, depth in self._shots(waiting):
            for window, follower in windows:
                frames = self._frames.get(window.start, window.stop)
                prepared = self._maker.prepare(window, frames, depth)
                ending = depth if window is windows[-1][0] else None
                yield _Ready(window, 0 if follower is None else follower.shared, prepared, ending)

    def _depth_of(self, shot: Shot) -> ShotDepth:
        maker = self._maker
        assert maker.depth is not None  # else it is not called

        def read(start: int, stop: int) -> list[Pixels]:
            if self._stopped.is_set():
                raise _StoppedError
            return [frame.rgb() for frame in self._frames.get(start, stop)]

        depth = ShotDepth(maker.depth, shot, read, self._work.folder("depth"), self._device)
        if maker.depth.relative or maker.whole_shots:
            with self._report.stage(f"depth of shot {shot.index + 1}", len(shot)) as advance:
                depth.prepare(advance)
        return depth

    def _add(self, window: Window, pieces: Pieces, pictures: Pictures) -> None:
        """Encode the pictures of a frame; the pieces of the window are begun with its first."""
        for name, planes in pictures.items():
            if name not in pieces:
                encoding, path = self._task.targets[name].encoding, self._work.piece(name, window.index)
                pieces[name] = PieceWriter(encoding, path) if encoding else PicturePiece(path)
            pieces[name].add(planes)

    def _finish(self, place: _Place, pieces: Pieces, before: Future[None] | None) -> None:
        """Write the pieces of a window, and count it when the one before is finished."""
        with self._ending:
            for piece in pieces.values():
                piece.finish()
        if before is not None:
            before.result()
        if place.window.shared:
            self._work.drop_tail(place.window.index - 1)
        if place.depth is not None:
            place.depth.remove()
        self._advance(place.window.num_emitted)


def is_done(task: Task, work: WorkFolder, window: Window) -> bool:
    """Return True where all pieces of a window are there."""
    return all(work.piece(name, window.index).exists() for name in task.targets)
