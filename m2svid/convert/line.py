"""A device's assembly line: while frames are made, the next are decoded and those before are encoded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from m2svid.convert.makers import Maker, Pictures
from m2svid.convert.overlap import ahead, side_by_side
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

_SMALL = 1 << 23  # px of a picture; encoders keep a window of them

Pieces = dict[str, PieceWriter | PicturePiece]
Made = tuple[Window, Pieces, ShotDepth | None]  # the depth is that of the shot, where the window is its last
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
class _Job:
    """A frame that is made alone.

    Attributes:
        window: that it belongs to.
        is_last: of its window.
        depth: of the shot, where the window is its last.
        task: makes the frame's pictures.
    """

    window: Window
    is_last: bool
    depth: ShotDepth | None
    task: Callable[[], Pictures]

    def done(self) -> tuple[_Job, Pictures]:
        return self, self.task()


class _StoppedError(Exception):
    """The run has failed or was interrupted."""


class Line:
    """Make the windows of shots with one maker, and keep each when it is finished.

    Frames that are made together go through three threads: one decodes, estimates depth and warps, one window
    ahead; the caller's makes the views; one encodes what the encoder has kept back, and writes the piece.
    Models of depth and views take turns. Frames that are made alone stream: the caller's thread decodes and
    encodes, and as many as torch has make their pictures, of one frame more than there are threads at a time.

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
        self._stopped = threading.Event()
        self._frames = Sliding[Frame](partial(film.frames, task.video))

    def run(self, waiting: deque[list[Window]]) -> None:
        """Take the windows of one shot after the other until there are none.

        Raises:
            UserError: as of `Runner.run`; what is finished by then is kept.
        """
        pending: deque[Future[None]] = deque()
        made = self._together(waiting) if self._maker.together else self._alone(waiting)
        threads = 2 if not self._maker.together and self._is_small() else 1
        with closing(self._frames), ThreadPoolExecutor(threads) as pool, closing(made):
            try:
                for window, pieces, depth in made:
                    if len(pending) == threads:
                        pending.popleft().result()
                    before = pending[-1] if pending else None
                    pending.append(pool.submit(self._finish, window, pieces, depth, before))
                for last in pending:
                    last.result()
            except BaseException:
                self._stopped.set()
                raise

    def _is_small(self) -> bool:
        """True where two encoders may end at once, as one of them keeps little more than a core busy."""
        encodings = [target.encoding for target in self._task.targets.values()]
        return all(each is None or each.width * each.height <= _SMALL for each in encodings)

    def _together(self, waiting: deque[list[Window]]) -> Iterator[Made]:
        with closing(ahead(self._prepared(waiting))) as prepared:
            for ready in prepared:
                yield ready.window, self._made(ready), ready.depth

    def _alone(self, waiting: deque[list[Window]]) -> Iterator[Made]:
        pieces: Pieces = {}
        with closing(side_by_side(_Job.done, self._jobs(waiting), torch.get_num_threads())) as done:
            for job, pictures in done:
                pieces = pieces or self._pieces(job.window)
                for name, planes in pictures.items():
                    pieces[name].add(planes)
                if job.is_last:
                    yield job.window, pieces, job.depth
                    pieces = {}

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

    def _jobs(self, waiting: deque[list[Window]]) -> Iterator[_Job]:
        for windows, depth in self._shots(waiting):
            for window, _ in windows:
                ending = depth if window is windows[-1][0] else None
                for index in range(window.start, window.stop):
                    (frame,) = self._frames.get(index, index + 1)
                    task = self._maker.task(window, frame, depth)
                    yield _Job(window, index == window.stop - 1, ending, task)

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

    def _made(self, ready: _Ready) -> Pieces:
        """Make a window, and give its pictures to encoders."""
        window = ready.window
        shared = self._work.load_tail(window.index - 1) if window.shared else None
        with self._device:
            pictures, made = self._maker.make(window, ready.prepared, shared)
        if ready.kept:
            self._work.save_tail(window.index, made[:, -ready.kept :])
        pieces = self._pieces(window)
        for views in pictures:
            for name, planes in views.items():
                pieces[name].add(planes)
        return pieces

    def _pieces(self, window: Window) -> Pieces:
        pieces: Pieces = {}
        for name, target in self._task.targets.items():
            path = self._work.piece(name, window.index)
            pieces[name] = PieceWriter(target.encoding, path) if target.encoding else PicturePiece(path)
        return pieces

    def _finish(
        self, window: Window, pieces: Pieces, depth: ShotDepth | None, before: Future[None] | None
    ) -> None:
        """Write the pieces of a window, and count it when the one before is finished."""
        for piece in pieces.values():
            piece.finish()
        if before is not None:
            before.result()
        if window.shared:
            self._work.drop_tail(window.index - 1)
        if depth is not None:
            depth.remove()
        self._advance(window.num_emitted)


def is_done(task: Task, work: WorkFolder, window: Window) -> bool:
    """Return True where all pieces of a window are there."""
    return all(work.piece(name, window.index).exists() for name in task.targets)
