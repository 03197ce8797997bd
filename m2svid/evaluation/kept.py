"""Values that an interrupted measurement has found already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from m2svid.errors import UserError
from m2svid.metrics.stereo import StereoMetrics


class Kept:
    """Videos that are measured, kept beside the output until all are, so that none is measured twice.

    Args:
        output: of the whole measurement.
        settings: what the values depend on beside the films.
        restart: forget what is there.

    Raises:
        UserError: what is there was measured with other settings.
    """

    def __init__(self, output: Path, settings: dict[str, Any], restart: bool) -> None:
        self._path = output.with_name(f".{output.name}.kept")
        self._records: dict[str, dict[str, Any]] = {}
        settings = json.loads(json.dumps(settings))
        if self._path.exists() and not restart:
            first, *others = _whole_lines(self._path) or [None]
            if first != settings:
                raise UserError(
                    f"{self._path} keeps an interrupted measurement with other settings: repeat those to "
                    "finish it, name another --output, or forget it with --restart"
                )
            self._records = {other["key"]: other for other in others}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = [settings, *self._records.values()]
        self._path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def restore(self, metrics: StereoMetrics, key: str, films: dict[str, Any]) -> bool:
        """Give the metrics a video that was measured before; False if it wasn't, or its films changed."""
        record = self._records.get(key)
        if record is None or record["films"] != films:
            return False
        metrics.restore([record["record"]])
        return True

    def add(self, metrics: StereoMetrics, key: str, films: dict[str, Any]) -> None:
        """Keep the video that was measured last."""
        with self._path.open("a") as file:
            file.write(json.dumps({"key": key, "films": films, "record": metrics.snapshot(-1)[0]}) + "\n")

    def remove(self) -> None:
        self._path.unlink()


def _whole_lines(path: Path) -> list[Any]:
    """The content of the lines, without one that was cut off."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
