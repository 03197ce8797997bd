"""Limits of comfortable parallax, and the strength and screen plane that keep to them.

Parallax is x in the right view minus x in the left view, in % of the picture's width: below 0 in front of the
screen, above 0 behind it. A film made from inverse depth q (0 = farthest, 1 = nearest) has
parallax = (convergence - q) · max_disparity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from m2svid.errors import UserError

ProfileName = Literal["tv", "cinema", "headset"]

LARGEST = 5.0  # % of the width that `keep` ever warps by: the strength of the paper's demo


@dataclass(frozen=True)
class Profile:
    """Limits of parallax for a way of watching, % of the picture's width.

    Attributes:
        name: of the way of watching.
        near: farthest in front of the screen, below 0.
        far: farthest behind it, above 0.
        nearest: the same for short excursions.
        farthest: the same for short excursions.
        range: between the nearest and the farthest point, excursions included.
        fov: horizontal angle that the picture fills, degrees; turns % into degrees.
        source: where the limits come from.
    """

    name: ProfileName
    near: float
    far: float
    nearest: float
    farthest: float
    range: float
    fov: float
    source: str

    def degrees(self, parallax: float) -> float:
        """Angle of a parallax, seen straight ahead."""
        return math.degrees(math.atan(2 * parallax / 100 * math.tan(math.radians(self.fov) / 2)))

    def at(self, fov: float) -> Profile:
        """Limits of the same angles for a picture that fills another horizontal angle, degrees."""
        scale = math.tan(math.radians(self.fov) / 2) / math.tan(math.radians(fov) / 2)
        names = ("near", "far", "nearest", "farthest", "range")
        return replace(self, fov=fov, **{name: getattr(self, name) * scale for name in names})


def open_profile(name: ProfileName, fov: float | None = None) -> Profile:
    """The limits for a way of watching.

    tv: BSkyB's guidelines for plano-stereoscopic programmes on sets of 46 to 70 inches (as quoted in "Are you
        out on the range", https://kitplus.com/articles/Are_you_out_on_the_range/604.html): within 3 % of
        the width, from 1 % in front of the screen to 2 % behind it, in short excursions 2.5 % and 4 %. At
        three picture heights a set fills 33°, so that 3 % is 1°.
    cinema: a screen of 10 m. No farther behind it than the distance of the eyes, 65 mm, so that they need not
        diverge; as far in front of it, up to three times that where the story asks for it
        (http://www.lightillusion.com/stereoscopic3d-rules.htm). 53° is a seat one screen's width away.
    headset: the angles that tv's limits have, 1° in all, for a picture that fills `fov` degrees. The screen's
        distance is not known, so divergence is not looked at.

    Args:
        name: of the way of watching.
        fov: horizontal angle that a headset's picture fills, degrees; 60 if not given.

    Raises:
        UserError: there is no such angle.
    """
    if fov is not None and not 0 < fov < 180:
        raise UserError(f"--fov must be between 0 and 180 degrees, not {fov:g}")
    tv = Profile("tv", -1.0, 2.0, -2.5, 4.0, 3.0, 33.0, "BSkyB, 46 to 70 inches")
    if name == "headset":
        angles = replace(tv, name="headset", source="the angles of BSkyB's limits at three picture heights")
        return angles.at(fov or 60.0)
    if name == "cinema":
        return Profile("cinema", -0.65, 0.65, -1.95, 0.65, 2.6, 53.0, "eyes 65 mm apart, a screen of 10 m")
    return tv


@dataclass(frozen=True)
class Placement:
    """The strength and the screen plane that turn inverse depth into parallax.

    Attributes:
        max_disparity: parallax between inverse depth 0 and 1, % of the width or px.
        convergence: inverse depth that lies on the screen.
    """

    max_disparity: float
    convergence: float

    @property
    def offset(self) -> float:
        """Parallax of inverse depth 0: by so much the right view is to be moved to the right."""
        return self.convergence * self.max_disparity

    def parallax(self, inverse_depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """The parallax of inverse depth, in the unit of `max_disparity`."""
        return ((self.convergence - inverse_depth) * self.max_disparity).astype(np.float32)


def keep(
    profile: Profile,
    far: float,
    near: float,
    max_disparity: float | None = None,
    convergence: float | None = None,
    largest: float = LARGEST,
) -> Placement:
    """The strongest placement, of those that `largest` allows, whose parallax stays within the limits.

    The limits are two linear inequalities in m = max_disparity and c = convergence:
    (c - near) · m >= profile.near and (c - far) · m <= profile.far. The largest m that has a c is
    (profile.far - profile.near) / (near - far), and c divides the depth as the screen divides the limits;
    that c also holds for every smaller m.

    Args:
        profile: the limits.
        far: inverse depth of the shot's far end.
        near: inverse depth of its near end, >= far.
        max_disparity: given, not to be chosen; where it is too large, a chosen convergence exceeds both
            limits by the same factor.
        convergence: given, not to be chosen.
        largest: limit of a chosen max_disparity.
    """
    if convergence is None:
        share = -profile.near / (profile.far - profile.near)  # of the depth that lies in front of the screen
        convergence = near - share * (near - far)
    if max_disparity is None:
        steps = ((near - convergence, -profile.near), (convergence - far, profile.far))
        max_disparity = min([limit / step for step, limit in steps if step > 0] + [largest])
    return Placement(max_disparity, convergence)
