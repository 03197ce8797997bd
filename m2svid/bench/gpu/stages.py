"""A model's parts, watched while clips go through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from m2svid.bench.clock import Clock, Moment
from m2svid.bench.gpu.counting import Counter
from m2svid.model.m2svid import M2SVid
from m2svid.model.vae import SVDAutoencoder

STAGES = ("encode", "clip", "unet", "decode")


class Stages:
    """Time, memory and operations of a model's parts.

    Args:
        model: whose methods are replaced by watched ones.
        clock: of its device.

    Attributes:
        counter: whose counts are shared out among the stages; None = none.
        tflop: by stage.
        gb: traffic by stage, see `Counter`.
        peaks: bytes by stage.
    """

    def __init__(self, model: M2SVid, clock: Clock) -> None:
        self._clock = clock
        self.counter: Counter | None = None
        self.begin()
        for stage, (owner, name) in _parts(model):
            setattr(owner, name, self._watched(stage, getattr(owner, name)))

    def begin(self) -> None:
        """Forget what was watched."""
        self._spans: list[tuple[str, Moment, Moment]] = []
        self.tflop = dict.fromkeys(STAGES, 0.0)
        self.gb = dict.fromkeys(STAGES, 0.0)
        self.peaks = dict.fromkeys(STAGES, 0)

    def seconds(self) -> dict[str, float]:
        """By stage, of all calls since `begin`."""
        seconds = dict.fromkeys(STAGES, 0.0)
        for stage, begin, end in self._spans:
            seconds[stage] += self._clock.seconds(begin, end)
        return seconds

    def _watched(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            before = (self.counter.tflop, self.counter.gb) if self.counter else (0.0, 0.0)
            self._clock.restart_peak()
            begin = self._clock.now()
            result = function(*args, **options)
            self._spans.append((stage, begin, self._clock.now()))
            self.peaks[stage] = max(self.peaks[stage], self._clock.peak())
            if self.counter:
                self.tflop[stage] += self.counter.tflop - before[0]
                self.gb[stage] += self.counter.gb - before[1]
            return result

        return call


def _parts(model: M2SVid) -> Iterator[tuple[str, tuple[object, str]]]:
    """Stage, and owner and name of each function that does its work."""
    yield "encode", (model.vae, "encode")
    yield "clip", (model.image_encoder, "forward")
    yield "unet", (model, "denoise")
    yield "decode", (model, "decode")
    if isinstance(model.vae, SVDAutoencoder):
        yield "decode", (model.vae, "decode_parts")
