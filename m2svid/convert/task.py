"""The task of a run, and the check that it can be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m2svid.convert.work_folder import WorkFolder, file_stamp
from m2svid.errors import UserError
from m2svid.files import check_output
from m2svid.video.excerpt import Excerpt
from m2svid.video.layouts import Layout
from m2svid.video.read import Video
from m2svid.video.shots import Survey
from m2svid.video.streams import Choice, Others, plan_others
from m2svid.video.write import Encoding, check_encoder


@dataclass(frozen=True)
class Target:
    """A file to make.

    Attributes:
        path: its name.
        encoding: of its pictures; None = it is one picture, of the kind that its name says.
        layout: of the views in its pictures.
    """

    path: Path
    encoding: Encoding | None
    layout: Layout


@dataclass(frozen=True)
class Task:
    """A film and the files to make of it.

    Attributes:
        video: the film.
        inputs: name -> file or folder that the results depend on, the film included.
        targets: name of a result -> its file; the work folder has the first one's name.
        options: that the results depend on, as JSON.
        cuts: find shots.
        restart: make files again that exist, or were begun with other settings.
        streams: what to do with sound, subtitles and attachments; None = they are not taken over.
    """

    video: Video
    inputs: Mapping[str, Path]
    targets: Mapping[str, Target]
    options: Mapping[str, Any]
    cuts: bool
    restart: bool
    streams: Choice | None

    def work_folder(self, settings: Mapping[str, Any] | None = None) -> WorkFolder:
        first = next(iter(self.targets.values()))
        stamps = {name: file_stamp(path) for name, path in self.inputs.items()}
        return WorkFolder(first.path, {**self.options, **stamps, **(settings or {})}, self.restart)

    def others(self, target: Target, film: Survey | None = None) -> Others | None:
        """The plan for the streams beside the film; None where the result gets none.

        Args:
            target: that gets them.
            film: says where a part of a film ends, and its other streams with it.

        Raises:
            UserError: the container doesn't take one, and the user has a choice.
        """
        if self.streams is None or target.encoding is None or not self.video.is_container:
            return None
        planned = plan_others(self.video, target.path, target.encoding.containers, self.streams)
        if film is None or not isinstance(self.video, Excerpt):
            return planned
        return replace(planned, stop=self.video.info.start + film.end * self.video.info.time_base)

    def check(self) -> None:
        """Check, before the work begins, that every file can be made as asked.

        Raises:
            UserError: it can't, or it exists and is not of an unfinished run of the same, or is an input.
        """
        for target in self.targets.values():
            check_output(target.path, self.inputs.values())
            if not target.path.parent.is_dir():
                raise UserError(f"the folder {target.path.parent} of the output does not exist")
        joined = [] if self.restart else self.work_folder().joined
        for name, target in self.targets.items():
            path, encoding = target.path, target.encoding
            if encoding is not None:
                check_encoder(encoding)
                if path.suffix.lower() not in encoding.containers:
                    allowed, kind = ", ".join(encoding.containers), " in layers" * encoding.layers
                    raise UserError(f"{path} must end in one of {allowed} for codec {encoding.codec}{kind}")
                self.others(target)
            if path.exists() and not self.restart and name not in joined:
                raise UserError(f"{path} exists: give --restart to make it again, or another output")
