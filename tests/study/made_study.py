"""Films of made-up methods, of which a study is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.evaluation.made_films import save_film, stereo

METHODS = ("true", "gray", "dark", "copied")


def save_films(folder: Path, videos: int = 3, size: tuple[int, int] = (48, 96), frames: int = 4) -> Path:
    """`folder/METHOD/clipN.right.mkv`, `folder/left/clipN.mkv` and `folder/hole/clipN_hole.mkv`."""
    for seed in range(videos):
        views = stereo(frames, *size, seed)
        right = views["right"]
        made = {
            "true": right,
            "gray": right.mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8),
            "dark": right // 2,
            "copied": views["left"],
        }
        for method, video in made.items():
            save_film(folder / method / f"clip{seed}.right.mkv", video)
        save_film(folder / "left" / f"clip{seed}.mkv", views["left"])
        hole = (np.abs(np.diff(views["disparity"], axis=-1, append=0)) > 1).astype(np.uint8) * 255
        save_film(folder / "hole" / f"clip{seed}_hole.mkv", hole[..., None].repeat(3, -1))
    return folder


def given(folder: Path, *methods: str) -> list[str]:
    """The words that name methods' folders; all if none is named."""
    return [f"{method}={folder / method}" for method in methods or METHODS]
