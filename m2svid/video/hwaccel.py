"""Decoding on a device: finding one that gives the samples that the CPU would."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import av
import numpy as np
from av.codec.hwaccel import hwdevices_available

from m2svid.errors import UserError
from m2svid.video.decode import DeviceError, decoded
from m2svid.video.planes import to_planes

log = logging.getLogger(__name__)

Kind = Literal["cuda", "vaapi", "videotoolbox", "d3d11va"]
Hwaccel = Literal["off", "auto", "cuda", "vaapi", "videotoolbox", "d3d11va"]

_COMPARED = 8  # frames


def find_device(path: Path, wanted: Hwaccel) -> Kind | None:
    """Find the kind of device that decodes a film; its first frames are compared with the CPU's.

    Args:
        path: of the film.
        wanted: "off" is none; "auto" is the first that can, and none where none can.

    Raises:
        UserError: the one that is named can't; or the file can't be read.
    """
    present, reasons = hwdevices_available() if wanted == "auto" else [wanted], []
    for kind in (kind for kind in get_args(Kind) if kind in present):
        try:
            _check(path, kind)
        except DeviceError as error:
            if wanted == kind:
                raise UserError(
                    f"--hwaccel {kind} can't decode {path}: {error}; give --hwaccel off"
                ) from error
            reasons.append(f"{kind}: {error}")
            continue
        log.info("%s: %s decodes it after the search for cuts, unless that finds damage", path, kind)
        return kind
    if wanted == "auto":
        log.info("%s: the CPU decodes it (%s)", path, "; ".join(reasons) or "this PyAV knows no device")
    return None


def _check(path: Path, kind: Kind) -> None:
    """Decode the first frames twice. Raises DeviceError where the device can't, or gives others."""
    if kind not in hwdevices_available():
        raise DeviceError("this PyAV was built without it")
    given, wanted = (list(islice(decoded(path, device=device), _COMPARED)) for device in (kind, None))
    if len(given) != len(wanted) or not all(map(_equal, given, wanted)):
        raise DeviceError("it gives other frames than the CPU")


def _equal(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    names = {frame.format.name.replace("yuvj", "yuv") for frame in (one, other)}
    facts = ((frame.width, frame.height, frame.pts, frame.key_frame) for frame in (one, other))
    return len(names) == len({*facts}) == 1 and all(map(np.array_equal, to_planes(one), to_planes(other)))
