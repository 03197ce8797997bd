"""The user studies of the M2SVid paper: Tables 2 and 3."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ranked:
    """A row of Table 2, of 112 rankings.

    Attributes:
        label: as the paper names it.
        steps: denoising steps.
        average: rank, 1 (best) to 4.
        best: how often it had rank 1.
        latency: of 16 frames of 512×512 on an A100, s.
    """

    label: str
    steps: int
    average: float
    best: int
    latency: float


RANKINGS, COMPARISONS = 112, 105
TABLE_2 = {
    "svg": Ranked("SVG", 50, 2.88, 16, 1270.4),
    "stereocrafter_25": Ranked("StereoCrafter", 25, 2.05, 29, 12.2),
    "stereocrafter_1": Ranked("StereoCrafter", 1, 3.46, 4, 2.4),
    "m2svid": Ranked("M2SVid (Ours)", 1, 1.43, 76, 2.1),
}
TABLE_3 = {"stereocrafter_25": 9, "m2svid": 39}  # how often it was preferred, of 105


def row_name(method: str) -> str:
    """The row of a method that is called like it, or as `configs/experiment` calls it (`table1_svg`)."""
    return method.removeprefix("table1_")
