"""High dynamic range: pictures for networks and for SDR screens, the way back, and what a stream says of it.

PQ (SMPTE ST 2084) counts light in absolute units; HLG (ARIB STD-B67) looks right on an SDR screen as it is.
Sources: Recommendations ITU-R BT.2100-2 (PQ, HLG), BT.2087-0 (primaries), BT.1886 (display gamma).

Shapes: H W pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorTrc
from numpy.typing import NDArray

from m2svid.video.side_data import side_data

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

HDR = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}  # by the transfer in the stream
_FULL = 255 << 8  # white of 16-bit RGB as FFmpeg makes it
_VALUES = np.arange(1 << 16) / _FULL  # a little above 1 at the end
_PEAK = 10000.0  # cd/m2, of PQ's largest value
_WHITE = 203.0  # cd/m2, of diffuse white (Report ITU-R BT.2408)
_KNEE = 0.3  # of diffuse white: what is darker stays as it is
_GAMMA = 2.4  # BT.1886
_DISPLAY = 1000.0  # cd/m2, of the screen that HLG is converted for
_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)  # BT.2020
_TO_BT709 = np.array(  # BT.2087, from linear BT.2020
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


def pq_to_light(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light in cd/m2 of PQ's values in [0, 1]: the EOTF of BT.2100, Table 4."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = code ** (1 / m2)
    return _PEAK * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def compress(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tone curve from [0, 10000] cd/m2 to an SDR screen's linear light in [0, 1].

    A line up to the knee, then a Möbius function of the same slope that ends at 1; it grows everywhere, so it
    has an inverse.
    """
    x, peak = light / _WHITE, _PEAK / _WHITE
    a = -(_KNEE**2) * (peak - 1) / (_KNEE**2 - 2 * _KNEE + peak)
    b = (_KNEE**2 - 2 * _KNEE * peak + peak) / (peak - 1)
    scale = (b**2 + 2 * b * _KNEE + _KNEE**2) / (b - a)
    return np.where(x <= _KNEE, x, scale * (x + a) / (np.maximum(x, _KNEE) + b))


@cache
def _pq_to_view() -> NDArray[np.float64]:
    """The value that a network sees for each of PQ's 65536 values, 1 = white."""
    return compress(pq_to_light(_VALUES)) ** (1 / _GAMMA)


@cache
def _view_to_pq() -> NDArray[np.uint16]:
    return np.interp(_VALUES, _pq_to_view(), np.arange(len(_VALUES))).round().astype(np.uint16)


def to_view(rgb: NDArray[np.uint16], transfer: int) -> NDArray[np.uint16]:
    """Make the copy of an HDR picture that a network sees: PQ tone-mapped channel by channel, HLG as it is.

    Primaries stay those of the film, so that nothing is clipped and `from_view` finds every value again.

    Args:
        rgb: (H, W, 3), white being 65280.
        transfer: of its samples, as in the stream.
    """
    if transfer != ColorTrc.SMPTE2084:
        return rgb
    return (_pq_to_view() * _FULL).round().astype(np.uint16)[rgb]


def from_view(rgb: Pixels, transfer: int) -> Pixels:
    """The HDR picture of which a network was shown, or has made, this; the inverse of `to_view`."""
    if transfer != ColorTrc.SMPTE2084:
        return rgb
    return _view_to_pq()[rgb * np.uint16(256) if rgb.dtype == np.uint8 else rgb]


def to_sdr(rgb: NDArray[np.uint16], transfer: int) -> NDArray[np.uint16]:
    """An HDR picture as SDR of BT.709, (H, W, 3), white being 65280: tone-mapped, colours outside clipped."""
    if transfer == ColorTrc.SMPTE2084:
        linear = compress(pq_to_light(_VALUES)).astype(np.float32)[rgb]
    else:
        linear = compress(_display_hlg(_hlg_to_scene(_VALUES).astype(np.float32)[rgb]))
    return ((linear @ _TO_BT709.T).clip(0, 1) ** (1 / _GAMMA) * _FULL).round().astype(np.uint16)


def _hlg_to_scene(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scene light in [0, 1] of HLG's values: the inverse OETF of BT.2100, Table 5."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)


def _display_hlg(scene: NDArray[np.float32]) -> NDArray[np.float32]:
    """Light in cd/m2 on a screen of 1000 cd/m2, where HLG's OOTF has the gamma 1.2 (BT.2100, Table 5)."""
    return _DISPLAY * (scene @ _LUMA)[..., None] ** 0.2 * scene


@dataclass(frozen=True)
class Mastering:
    """The screen on which a film was graded, and how bright it gets (SMPTE ST 2086, CTA-861.3).

    Attributes:
        primaries: x and y of red, green, blue and white; () = not known.
        luminance: smallest and largest of the screen, cd/m2; () = not known.
        light: brightest pixel and brightest average of a frame, cd/m2; () = not known.
    """

    primaries: tuple[Fraction, ...] = ()
    luminance: tuple[Fraction, ...] = ()
    light: tuple[int, ...] = ()

    @classmethod
    def of(cls, raw: av.VideoFrame) -> Mastering | None:
        """Read it from a decoded frame; None = the frame has none."""
        found = side_data(raw) or {}
        screen, light = found.get(Type.MASTERING_DISPLAY_METADATA), found.get(Type.CONTENT_LIGHT_LEVEL)
        if screen is None and light is None:
            return None
        numbers, known = [], (0, 0)
        if screen is not None:  # struct AVMasteringDisplayMetadata of libavutil: ten fractions, two flags
            *parts, primaries, luminance = struct.unpack_from("<22i", screen)
            numbers = [Fraction(a, b or 1) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            known = primaries, luminance
        return cls(
            tuple(numbers[:8]) if known[0] else (),
            tuple(numbers[8:]) if known[1] else (),
            struct.unpack_from("<2I", light) if light is not None else (),
        )

    def parameters(self, codec: str) -> list[str]:
        """Parameters of x264, x265 or SVT-AV1; none for codecs that have no place for it."""
        names = {"h264": ("mastering-display", "cll"), "h265": ("master-display", "max-cll")}
        names |= {"av1": ("mastering-display", "content-light")}
        if codec not in names:
            return []
        found = []
        if self.primaries and self.luminance:
            units = (Fraction(1), Fraction(1)) if codec == "av1" else (Fraction(50000), Fraction(10000))
            red, green, blue, white, range_ = (
                f"({_number(a * unit)},{_number(b * unit)})" for a, b, unit in self._pairs(*units)
            )
            found.append(f"{names[codec][0]}=G{green}B{blue}R{red}WP{white}L{range_}")
        if self.light:
            found.append(f"{names[codec][1]}={self.light[0]},{self.light[1]}")
        return found

    def _pairs(self, place: Fraction, light: Fraction) -> Iterator[tuple[Fraction, Fraction, Fraction]]:
        for index in range(0, 8, 2):
            yield *self.primaries[index : index + 2], place
        yield self.luminance[1], self.luminance[0], light


def _number(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.4f}"


def dynamic(raw: av.VideoFrame) -> tuple[str, ...]:
    """Kinds of metadata that a frame has for itself alone."""
    names = {Type.DYNAMIC_HDR_PLUS: "HDR10+"}
    names |= dict.fromkeys((Type.DOVI_METADATA, Type.DOVI_RPU_BUFFER), "Dolby Vision")
    return tuple(sorted({names[kind] for kind in side_data(raw) or {} if kind in names}))
