"""Training recipes: each turns a batch into a loss, in a file of its own."""

from m2svid.recipes.base import ConditioningNoise, Loss, Recipe
from m2svid.recipes.diffusion import StandardDiffusion
from m2svid.recipes.end_to_end import EndToEnd
from m2svid.recipes.latent import LatentOnly
from m2svid.recipes.replace_frames import ReplaceFrames

__all__ = [
    "ConditioningNoise",
    "EndToEnd",
    "LatentOnly",
    "Loss",
    "Recipe",
    "ReplaceFrames",
    "StandardDiffusion",
]
