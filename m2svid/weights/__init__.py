"""Weights of every published format in and out."""

from m2svid.weights.mismatch import MismatchError
from m2svid.weights.parts import Part, Parts, build
from m2svid.weights.sgm import to_diffusers, to_sgm

__all__ = ["MismatchError", "Part", "Parts", "build", "to_diffusers", "to_sgm"]
