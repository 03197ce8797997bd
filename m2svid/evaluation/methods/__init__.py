"""Methods that an evaluation compares, one or a few a file; YAML names them by class path."""

from m2svid.evaluation.methods.base import Method, Trained
from m2svid.evaluation.methods.bounds import Filled, LeftCopied, RoundTrip, Truth, Warped
from m2svid.evaluation.methods.models import TrainedModel, Weights
from m2svid.evaluation.methods.stereocrafter import StereoCrafter
from m2svid.evaluation.methods.svg import SVG

__all__ = [
    "SVG",
    "Filled",
    "LeftCopied",
    "Method",
    "RoundTrip",
    "StereoCrafter",
    "Trained",
    "TrainedModel",
    "Truth",
    "Warped",
    "Weights",
]
