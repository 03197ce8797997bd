"""Nodes of M2SVid for ComfyUI; README.md says how to install them."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
