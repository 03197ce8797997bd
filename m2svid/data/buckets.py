"""Which size a batch has: the buckets of mixed-resolution training (REFERENCE "Losses")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from m2svid.data.randomness import Purpose, generator
from m2svid.errors import UserError


@dataclass(frozen=True)
class Bucket:
    """A size of clips that are trained together.

    Attributes:
        frames: frames of a clip.
        height: pixels.
        width: pixels.
        batch_size: clips in a batch.
        weight: how often a batch comes from this bucket, relative to the others.
    """

    frames: int
    height: int
    width: int
    batch_size: int = 1
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("frames", "height", "width", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"bucket option {name} must be at least 1, got {getattr(self, name)}")
        if self.weight <= 0:
            raise UserError(f"bucket option weight must be positive, got {self.weight}")


PAPER_BUCKETS = (Bucket(4, 512, 512), Bucket(16, 256, 256), Bucket(25, 192, 192))


class BucketSchedule:
    """Draw the bucket of every batch; all ranks draw the same.

    Args:
        buckets: at least one.
        seed: of the run.
    """

    def __init__(self, buckets: Sequence[Bucket], seed: int) -> None:
        if not buckets:
            raise UserError("option buckets must name at least one bucket")
        self.buckets = tuple(buckets)
        self._seed = seed
        total = sum(bucket.weight for bucket in buckets)
        self._shares = [bucket.weight / total for bucket in buckets]

    def __getitem__(self, batch: int) -> Bucket:
        """The bucket of the training batch with this number."""
        drawn = generator(Purpose.BUCKET, self._seed, batch).choice(len(self.buckets), p=self._shares)
        return self.buckets[drawn]
