"""How a batch becomes a loss: one file a recipe."""

from m2svid.recipes.base import Loss, Recipe, ReplaceFrames
from m2svid.recipes.diffusion import StandardDiffusion
from m2svid.recipes.end_to_end import EndToEnd
from m2svid.recipes.latent import LatentOnly

__all__ = ["EndToEnd", "LatentOnly", "Loss", "Recipe", "ReplaceFrames", "StandardDiffusion"]
