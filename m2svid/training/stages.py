"""The stages of the model that gradients flow through, and what may be chosen for each of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal, get_args

from lightning.pytorch.strategies import Strategy

from m2svid.errors import UserError
from m2svid.model.m2svid import M2SVid
from m2svid.model.speed import compile_regions
from m2svid.training.sharding import FullyShardedStrategy

log = logging.getLogger(__name__)

Stage = Literal["unet", "decoder"]


def check_stages(option: str, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages that an option names.

    Raises:
        UserError: one is unknown; names the option.
    """
    known = get_args(Stage)
    if isinstance(stages, str) or not set(stages) <= set(known):
        raise UserError(f"{option} must be a list of {', '.join(known)}, got {stages!r}")
    return tuple(stages)


def compile_stages(model: M2SVid, stages: Sequence[Stage], strategy: Strategy) -> None:
    """Compile the blocks of some stages, in place; it is done when they first run.

    Raises:
        UserError: the strategy doesn't allow it, or a stage has no such blocks.
    """
    if stages and isinstance(strategy, FullyShardedStrategy):
        raise UserError(
            "model.compile doesn't work with FullyShardedStrategy: use DDPStrategy, or --model.compile '[]'"
        )
    vae = model.vae.network
    networks = {"unet": model.unet, "decoder": getattr(vae, "decoder", vae)}
    for stage in stages:
        blocks = compile_regions(networks[stage])
        if not blocks:
            raise UserError(f"model.compile: the {stage} of this model has nothing to compile; leave it out")
        log.info("%s: %d blocks are compiled when they first run", stage, blocks)
