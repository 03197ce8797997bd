"""The numbers of the M2SVid paper, by row: PSNR, MS-SSIM and LPIPS of each dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass

METRICS = ("psnr", "ms_ssim", "lpips")
Triple = tuple[float, float, float]  # NaN where the paper has no value


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        table: "Table 4" and so on.
        label: as the paper names it.
        steps: denoising steps.
        full: by dataset, over the full view.
        inside: by dataset, inside the holes, the rest painted white (Tables 6 to 8).
        outside: the same outside of them (Table 6).
    """

    table: str
    label: str
    steps: int
    full: dict[str, Triple]
    inside: dict[str, Triple]
    outside: dict[str, Triple]


def _row(table: int, label: str, steps: int, *triples: str) -> Row:
    """Triples "region dataset psnr ms_ssim lpips"; s = Stereo4D, e = Ego4D; - = no value."""
    found: dict[str, dict[str, Triple]] = {"full": {}, "inside": {}, "outside": {}}
    for triple in triples:
        region, dataset, *values = triple.split()
        name = {"s": "stereo4d", "e": "ego4d"}[dataset]
        psnr, ms_ssim, lpips = (math.nan if value == "-" else float(value) for value in values)
        found[region][name] = psnr, ms_ssim, lpips
    return Row(f"Table {table}", label, steps, **found)


_A = ("full s 24.8 .891 .215", "full e 22.1 .870 .267", "inside s 36.7 .994 .011", "inside e 30.1 .988 .024")
_D = ("full s 26.2 .915 .179", "full e 22.8 .886 .244", "inside s 38.2 .995 .009", "inside e 30.9 .989 .024")
_SAMPLED, _FIXED = "sampled t", "fixed t = T"

# Tables 1 and 6, 4 and 7, 5 and 8 have the same rows. Names are those of configs/experiment where it has one.
ROWS: dict[str, Row] = {
    "table1_svg": _row(
        1, "SVG", 50, "full s 25.6 .926 .217", "inside s 38.1 .994 .014", "outside s 26.3 .940 .190"
    ),
    "table1_stereocrafter_25": _row(
        1, "StereoCrafter", 25, "full s 24.9 .909 .242", "inside s 38.2 .995 .012", "outside s 25.5 .922 .217"
    ),
    "table1_stereocrafter_1": _row(
        1, "StereoCrafter", 1, "full s 25.3 .911 .262", "inside s 38.9 .996 .014", "outside s 25.8 .923 .234"
    ),
    "table1_m2svid": _row(
        1, "M2SVid (Ours)", 1, "full s 26.2 .915 .180", "inside s 38.2 .994 .010", "outside s 26.8 .924 .161"
    ),
    "table4_diffusion_warped_mask": _row(
        4, "warped + mask", 25, "full s 24.5 .886 .226", "full e 20.8 .822 .296", "inside s 36.1 .993 .011",
        "inside e 29.3 .986 .027",
    ),
    "table4_diffusion_left_warped_mask": _row(4, "warped + mask + left", 25, *_A),
    "table4_warped_mask": _row(
        4, "warped + mask", 1, "full s 26.1 .913 .187", "full e 21.5 .837 .276", "inside s 38.0 .994 .010",
        "inside e 30.4 .987 .026",
    ),
    "table4_left_warped_mask": _row(4, "warped + mask + left", 1, *_D),
    "table4_full_attention": _row(
        4, "+ full attention", 1, "full s 26.2 .915 .180", "full e 22.7 .885 .248", "inside s 38.2 .994 .010",
        "inside e 30.7 .989 .025",
    ),
    "table5_a": _row(5, "A: standard loss", 25, *_A),
    "table5_b": _row(
        5, "B: standard loss", 1, "full s 25.7 .901 .242", "full e 23.0 .877 .320", "inside s 38.5 .995 .012",
        "inside e 31.5 .990 .030",
    ),
    "table5_c": _row(
        5, "C: latent", 1, "full s 25.6 .901 .238", "full e 22.9 .875 .318", "inside s 38.3 .995 .012",
        "inside e 31.4 .990 .030",
    ),
    "table5_d": _row(5, "D: latent + LPIPS + L1", 1, *_D),
    "table10_diffusion_1": _row(10, _SAMPLED, 1, "full s - - .242", "full e - - .320"),
    "table10_diffusion_5": _row(10, _SAMPLED, 5, "full s - - .217", "full e - - .278"),
    "table10_diffusion_25": _row(10, _SAMPLED, 25, "full s - - .215", "full e - - .267"),
    "table10_e2e_1": _row(10, _FIXED, 1, "full s - - .179", "full e - - .244"),
    "table10_e2e_5": _row(10, _FIXED, 5, "full s - - .200", "full e - - .260"),
    "table10_e2e_25": _row(10, _FIXED, 25, "full s - - .243", "full e - - .298"),
}  # fmt: skip
