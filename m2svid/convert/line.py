"""A device's assembly line: while a window is made, the next is prepared and the one before is encoded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from m2svid.convert.makers import Maker
from m2svid.convert.overlap import ahead
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

Pieces = dict[str, PieceWriter | PicturePiece]


@dataclass(frozen=True)
class _Ready:
    """A window that is prepared.

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


class _StoppedError(Exception):
    """The run has failed or was interrupted."""


class Line:
    """Make the windows of shots with one maker, and keep each when it is finished.

    Three threads: one decodes, estimates depth and warps, one window ahead; the caller's makes the views; one
    encodes what the encoder has kept back, and writes the piece. Models of depth and views take turns.

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

    def run(self, waiting: deque[list[Window]]) -> None:
        """Take the windows of one shot after the other until there are none.

        Raises:
            UserError: as of `Runner.run`; what is finished by then is kept.
        """
        last: Future[None] | None = None
        with ThreadPoolExecutor(1) as pool, closing(ahead(self._prepared(waiting))) as prepared:
            try:
                for ready in prepared:
                    pieces = self._made(ready)
                    if last is not None:
                        last.result()
                    last = pool.submit(self._finish, ready, pieces)
                if last is not None:
                    last.result()
            except BaseException:
                self._stopped.set()
                raise

    def _prepared(self, waiting: deque[list[Window]]) -> Iterator[_Ready]:
        while True:
            try:
                windows = waiting.popleft()
            except IndexError:
                return
            undone = [
                pair for pair in pairwise([*windows, None]) if not is_done(self._task, self._work, pair[0])
            ]
            if undone:
                yield from self._shot(self._film.shots[windows[0].shot], undone)

    def _shot(self, shot: Shot, windows: list[tuple[Window, Window | None]]) -> Iterator[_Ready]:
        """Prepare windows of a shot, each given with the one that follows it."""
        frames = Sliding[Frame](partial(self._film.frames, self._task.video))
        text = f"shot {shot.index + 1}: frames {shot.start} to {shot.stop - 1}"
        self._report.say(Event("shot", text, {"shot": shot.index}))
        depth = None if self._maker.depth is None else self._depth_of(shot, frames)
        for window, follower in windows:
            prepared = self._maker.prepare(window, frames.get(window.start, window.stop), depth)
            is_last = window is windows[-1][0]
            kept = 0 if follower is None else follower.shared
            yield _Ready(window, kept, prepared, depth if is_last else None)

    def _depth_of(self, shot: Shot, frames: Sliding[Frame]) -> ShotDepth:
        maker = self._maker
        assert maker.depth is not None  # else it is not called

        def read(start: int, stop: int) -> list[Pixels]:
            if self._stopped.is_set():
                raise _StoppedError
            return [frame.rgb() for frame in frames.get(start, stop)]

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
        if ready.kept and made is not None:
            self._work.save_tail(window.index, made[:, -ready.kept :])
        pieces: Pieces = {}
        for name, target in self._task.targets.items():
            path = self._work.piece(name, window.index)
            pieces[name] = PieceWriter(target.encoding, path) if target.encoding else PicturePiece(path)
        for views in pictures:
            for name, planes in views.items():
                pieces[name].add(planes)
        return pieces

    def _finish(self, ready: _Ready, pieces: Pieces) -> None:
        for piece in pieces.values():
            piece.finish()
        if ready.window.shared:
            self._work.drop_tail(ready.window.index - 1)
        if ready.depth is not None:
            ready.depth.remove()
        self._advance(ready.window.num_emitted)


def is_done(task: Task, work: WorkFolder, window: Window) -> bool:
    """Return True where all pieces of a window are there."""
    return all(work.piece(name, window.index).exists() for name in task.targets)
