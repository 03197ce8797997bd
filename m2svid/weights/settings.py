"""What a file of weights can't say by its tensors: conditioning, attention and how the model is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from m2svid.attention import AttentionStrategy, Disoccluded, Factorized, Full
from m2svid.errors import UserError
from m2svid.model.conditioning import Conditioning, InputName
from m2svid.model.neighbours import (
    DEPTHCRAFTER,
    STEREOCRAFTER,
    DepthCrafterConditioning,
    StereoCrafterConditioning,
)
from m2svid.model.sampler import Sampler
from m2svid.model.usage import Usage

AttentionName = Literal["disoccluded", "factorized", "full"]
ATTENTION: dict[AttentionName, type[AttentionStrategy]] = {
    "disoccluded": Disoccluded,
    "factorized": Factorized,
    "full": Full,
}
PUBLISHED_ATTENTION: dict[str, AttentionName] = {
    "m2svid_weights": "disoccluded",
    "m2svid_no_full_atten_weights": "factorized",
}
"""Names of the published files, without suffix."""


@dataclass(frozen=True)
class Settings:
    """Everything beside the networks that makes a model: the `m2svid` entry of a `model_index.json`.

    Attributes:
        conditioning: what the U-Net sees.
        attention: name of its strategy; None = the weights can't tell.
        usage: how it is run.
    """

    conditioning: Conditioning
    attention: AttentionName | None = None
    usage: Usage = field(default_factory=Usage)

    def to_json(self) -> dict[str, Any]:
        usage = asdict(replace(self.usage, sampler=None)) | {"sampler": vars(self.usage.sampler)}
        return {
            "family": self.conditioning.family,
            "conditioning": list(self.conditioning.inputs),
            "attention": self.attention,
            **usage,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Settings:
        """Inverse of `to_json`. Raises UserError where an entry is missing, unknown or wrong."""
        rest = dict(content)
        try:
            conditioning = _conditioning(rest.pop("family"), rest.pop("conditioning"))
            attention = check_attention(rest.pop("attention"))
            usage = Usage(sampler=Sampler(**rest.pop("sampler")), **rest)
        except (KeyError, TypeError) as error:
            raise UserError(
                f"model_index.json: its m2svid entry is not of this version ({error})."
            ) from error
        return cls(conditioning, attention, usage)


def check_attention(name: str | None) -> AttentionName | None:
    if name is not None and name not in ATTENTION:
        raise UserError(f"attention={name!r} must be one of {', '.join(ATTENTION)}.")
    return name


def _conditioning(family: str, inputs: Sequence[InputName]) -> Conditioning:
    families = {"stereocrafter": StereoCrafterConditioning, "depthcrafter": DepthCrafterConditioning}
    if family in families:
        return families[family]()
    if family != Conditioning.family:
        raise UserError(f"model_index.json: family={family!r} must be one of m2svid, {', '.join(families)}.")
    return Conditioning(inputs)


def published_settings(in_channels: int, latent_channels: int, path: Path) -> Settings | None:
    """Settings of an M2SVid file by its U-Net's channels and its name; None for SVD's."""
    for inputs in (("left", "warped", "mask"), ("warped", "mask")):
        conditioning = Conditioning(inputs)
        if conditioning.in_channels(latent_channels) == in_channels:
            return Settings(conditioning, PUBLISHED_ATTENTION.get(path.stem))
    return None


def neighbour_settings(in_channels: int, latent_channels: int) -> Settings | None:
    """Settings of a diffusers U-Net that comes alone, by its channels: StereoCrafter's or DepthCrafter's."""
    neighbours = ((StereoCrafterConditioning(), STEREOCRAFTER), (DepthCrafterConditioning(), DEPTHCRAFTER))
    for conditioning, usage in neighbours:
        if conditioning.in_channels(latent_channels) == in_channels:
            return Settings(conditioning, "factorized", usage)
    return None
