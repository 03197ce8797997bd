"""Spatial attention strategies: parameter-free and interchangeable on one checkpoint."""

from m2svid.attention.base import AttentionStrategy, Selection
from m2svid.attention.disoccluded import Disoccluded
from m2svid.attention.factorized import Factorized
from m2svid.attention.full import Full
from m2svid.attention.probe import Probe

__all__ = ["AttentionStrategy", "Disoccluded", "Factorized", "Full", "Probe", "Selection"]
