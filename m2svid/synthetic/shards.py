"""Shards that a run makes for itself before it starts, from the procedural world."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from m2svid.errors import UserError
from m2svid.files import whole
from m2svid.synthetic.world import make_shards


@dataclass(frozen=True)
class ProceduralShards:
    """Make `{folder}/train/*.tar`, and the same for val and test, where they are not there yet.

    Attributes:
        folder: where the shards are kept.
        train: clips to train on.
        val: clips to validate on, of other worlds.
        test: clips to test on, of yet other worlds.
        frames: frames a clip.
        height: pixels.
        width: pixels.
        fps: frame rate that the clips are given.
        objects: objects a world.
        seed: of all worlds.
    """

    folder: str
    train: int = 64
    val: int = 8
    test: int = 8
    frames: int = 16
    height: int = 128
    width: int = 128
    fps: int = 8
    objects: int = 12
    seed: int = 0

    def make(self) -> None:
        """Make the missing splits, each whole or not at all.

        Raises:
            UserError: if there are shards that were made with other options.
        """
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):  # runs that start together share the folder
            for split, clips in (("train", self.train), ("val", self.val), ("test", self.test)):
                options = asdict(self) | {"split": split, "clips": clips}
                for other in ("folder", "train", "val", "test"):
                    del options[other]
                self._make_split(folder / split, options)

    def _make_split(self, folder: Path, options: dict[str, int | str]) -> None:
        record = json.dumps(options, indent=1)
        made = folder / "options.json"
        if made.exists() and made.read_text() == record:
            return
        if folder.exists():
            raise UserError(
                f"{folder} holds shards of other options than data.procedural has: remove that folder or "
                "change data.procedural.folder"
            )
        with whole(folder) as temporary:
            make_shards(temporary, **options)
            (temporary / made.name).write_text(record)
