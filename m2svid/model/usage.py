"""How a model is run: what its training fixed beside the weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from m2svid.model.sampler import Sampler


@dataclass(frozen=True)
class Usage:
    """Settings that belong to a model; the defaults are M2SVid's (REFERENCE §2, 3, 6).

    Attributes:
        sampler: turns the denoiser into latents.
        noise_aug: noise level of the conditioning views.
        window: frames that the model takes at a time.
        overlap: frames that windows over a longer video share. The later window gets them as made by the
            earlier one, in place of the warped ones.
        mark_known: whether the mask says that they are known right frames (-1 all over, paper, Appendix E);
            otherwise it stays as it is.
    """

    sampler: Sampler = field(default_factory=Sampler)
    noise_aug: float = 0.02
    window: int = 25
    overlap: int = 3
    mark_known: bool = True
