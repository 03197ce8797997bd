"""The measurements of `bench gpu`, most valuable first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from m2svid.bench.gpu.agreement import agree
from m2svid.bench.gpu.film import film
from m2svid.bench.gpu.published import beside_published
from m2svid.bench.gpu.refining import Size, Variant, refine, within
from m2svid.bench.gpu.setting import Numbers, Setting
from m2svid.bench.gpu.training import load, train
from m2svid.data.buckets import PAPER_BUCKETS, Bucket

VRAM = (8, 12, 16, 24)  # GB


@dataclass(frozen=True)
class Case:
    """A measurement.

    Attributes:
        name: in the report.
        measure: makes its figures.
        seconds: about what it takes on an H100, preparation included.
        card_gb: memory of the smallest card that it can run on; None = it needs no GPU.
    """

    name: str
    measure: Callable[[Setting], dict[str, Any]]
    seconds: float
    card_gb: float | None = None


@dataclass(frozen=True)
class Sizes:
    """Sizes of clips, (T, H, W).

    Attributes:
        clip: of most measurements.
        others: also of one-step inference.
        film: a window of a film.
        tile: side of its tiles, px.
        film_frames: frames of the film.
        buckets: of training.
    """

    clip: Size
    others: tuple[Size, ...]
    film: Size
    tile: int
    film_frames: int
    buckets: tuple[Bucket, ...]


FULL = Sizes((16, 512, 512), ((16, 576, 1024), (25, 512, 512)), (25, 1088, 1920), 768, 50, PAPER_BUCKETS)
SMALL = Sizes((2, 64, 64), ((3, 64, 64),), (2, 64, 128), 64, 3, (Bucket(2, 64, 64),))


def cases(setting: Setting) -> list[Case]:
    """All measurements that a device is made for."""
    sizes = SMALL if setting.small else FULL
    main, *others = setting.kinds
    first = [
        Case("agreement", agree, 10),
        _refining(sizes.clip, main, 10),
        *([_published(sizes.clip)] if setting.published else []),
        _training(sizes.buckets[0]),
        _refining(sizes.film, main, 40, sizes.tile),
        _refining(sizes.film, main, 30, variant="holes"),
        Case("film", partial(film, size=(sizes.film_frames, *sizes.film[1:]), window=sizes.film[0]), 60),
        *(_refining(size, main, 10) for size in sizes.others),
        *(_training(bucket) for bucket in sizes.buckets[1:]),
        *(_refining(sizes.clip, numbers, 15) for numbers in others),
        Case("loader", load, 40),
    ]
    if setting.device.type != "cuda":
        return first
    return [
        *first,
        _refining(sizes.clip, main, 10, variant="contiguous"),
        _refining(sizes.clip, main, 90, variant="compiled"),
        *(Case(f"vram {gb}G", partial(within, size=sizes.film, vram=f"{gb}G"), 30, gb) for gb in VRAM),
        _refining(sizes.film, main, 50),
    ]


def _refining(
    size: Size, numbers: Numbers, seconds: float, tile: int | None = None, variant: Variant = "eager"
) -> Case:
    words = ["refine", _text(size), numbers, *([f"tiles-{tile}"] if tile else [])]
    if variant != "eager":
        words.append(variant)
    measure = partial(refine, size=size, numbers=numbers, tile=tile, variant=variant)
    return Case(" ".join(words), measure, seconds)


def _training(bucket: Bucket) -> Case:
    size = (bucket.frames, bucket.height, bucket.width)
    return Case(f"train {_text(size)}", partial(train, bucket=bucket), 25)


def _published(size: Size) -> Case:
    return Case(f"published {_text(size)}", partial(beside_published, size=size), 180)


def _text(size: Size) -> str:
    return "x".join(map(str, size))
