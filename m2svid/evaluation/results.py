"""Results of an evaluation as JSON: every video's values, and everything needed to repeat it."""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from m2svid.errors import UserError
from m2svid.files import whole

FORMAT = "m2svid results 1"
MODEL = "model"  # the trained model's name
PACKAGES = (
    "torch",
    "torchvision",
    "torchmetrics",
    "lightning",
    "opencv-python-headless",
    "numpy",
    "av",
    "lpips",
)


@dataclass
class VideoResult:
    """One video.

    Attributes:
        key: unique name.
        values: by metric; None where the metric has no value for this video.
        films: facts of the files by role (prediction, truth, left, ...): path, sha256 and so on.
    """

    key: str
    values: dict[str, float | None]
    films: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Results:
    """One method on one dataset.

    Attributes:
        method: its name.
        dataset: its name.
        videos: sorted by key.
        means: over videos, and numbers of videos.
        protocol: settings that a value depends on.
        weights: SHA-256 of weights, by what they are for.
        versions: of the package, of Python and of libraries.
    """

    method: str
    dataset: str
    videos: list[VideoResult]
    means: dict[str, float]
    protocol: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: versions())

    def write(self, path: Path) -> None:
        """Write JSON; inf and nan, which JSON doesn't have, as strings."""
        text = json.dumps({"format": FORMAT, **spelled(asdict(self))}, indent=1, ensure_ascii=False)
        with whole(path) as temporary:
            temporary.write_text(text + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Raise a UserError if it isn't such a file."""
        try:
            content = json.loads(path.read_text())
            if content.pop("format") != FORMAT:
                raise KeyError
            videos = [
                VideoResult(video["key"], _numbers(video["values"]), video["films"])
                for video in content.pop("videos")
            ]
            return cls(videos=videos, means=_numbers(content.pop("means")), **content)
        except FileNotFoundError as error:
            raise UserError(f"{path} does not exist") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} holds no results: give a JSON that `measure` or `test` wrote") from error


def versions() -> dict[str, str]:
    """Versions of what takes part in a measurement."""
    try:
        own = metadata.version("m2svid")
    except metadata.PackageNotFoundError:
        own = "not installed"
    found = {"m2svid": own, "python": platform.python_version(), "platform": sys.platform}
    return found | {name: metadata.version(name) for name in PACKAGES}


def spelled(value: Any) -> Any:
    """The value as JSON has it: inf and nan as strings, tuples as lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: spelled(item) for key, item in value.items()}
    return [spelled(item) for item in value] if isinstance(value, list | tuple) else value


def _numbers(values: dict[str, Any]) -> dict[str, float | None]:
    return {name: None if value is None else float(value) for name, value in values.items()}
