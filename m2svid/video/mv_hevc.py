"""MV-HEVC: two HEVC streams of the same structure become two layers of one, without touching coded pictures.

Both views are encoded on their own, with key frames and reordering in the same places. The right view's
headers are rewritten for layer 1, which is said to depend on layer 0 but predicts nothing from it; a decoder
that knows no layers shows the left view.

Source: ITU-T H.265 (V8), Annexes F and G; clauses are named below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from m2svid.video.bits import BitReader, closed, escape, u, ue, unescape

VPS, SPS, PPS, SEI = 32, 33, 34, 39
_SLICES, _IRAP, _IDR = range(32), range(16, 24), (19, 20)
_PROFILE = 6  # Multiview Main
_START = b"\0\0\0\1"
_HEADER = 8192  # bytes, more than the header of a slice takes
# what equal encoders must have said, and this rewriting relies on: option of x265 -> value
STRUCTURE = {"b-adapt": "0", "scenecut": "0", "open-gop": "0", "weightp": "0", "weightb": "0", "slices": "1"}


@dataclass(frozen=True)
class Nal:
    """A NAL unit: its type, and its payload with emulation prevention."""

    kind: int
    payload: bytes

    def on_layer(self, layer: int) -> bytes:
        """With start code and header, in the lowest temporal sub-layer."""
        return _START + bytes([self.kind << 1 | layer >> 5, (layer & 31) << 3 | 1]) + self.payload


def split(data: bytes) -> Iterator[Nal]:
    """NAL units of a stream with start codes."""
    for unit in re.split(rb"\x00*\x00\x00\x01", data)[1:]:
        yield Nal(unit[0] >> 1 & 63, unit[2:])


class Layers:
    """Join the packets of two views that were encoded alike.

    Args:
        headers: VPS, SPS and PPS of the left or right view, which are the same.

    Raises:
        RuntimeError: the encoder used something that this rewriting does not know.
    """

    def __init__(self, headers: bytes) -> None:
        nals = {nal.kind: nal for nal in split(headers)}
        self._sps, self._pps = _Sps(unescape(nals[SPS].payload)), _Pps(unescape(nals[PPS].payload))
        vps = Nal(VPS, escape(_vps(unescape(nals[VPS].payload), self._sps)))
        self._displays = Nal(SEI, escape(_displays()))
        right = [Nal(SPS, escape(self._sps.on_layer_1())), Nal(PPS, escape(self._pps.on_layer_1()))]
        base = [vps, nals[SPS], nals[PPS], self._displays]
        self.headers = b"".join([nal.on_layer(0) for nal in base] + [nal.on_layer(1) for nal in right])

    def join(self, left: bytes, right: bytes) -> bytes:
        """The access unit of a frame from the packets of both views."""
        nals = [nal for nal in split(left) if nal.kind not in (VPS, SPS, PPS)]
        key = any(nal.kind in _IRAP for nal in nals)
        units = [self._displays.on_layer(0)] if key else []
        units += [nal.on_layer(0) for nal in nals]
        for nal in split(right):
            if nal.kind in _SLICES:
                units.append(Nal(nal.kind, self._slice(nal)).on_layer(1))
        return b"".join(units)

    def _slice(self, nal: Nal) -> bytes:
        """A slice's payload with its header as layer 1 has it (F.7.3.6.1): one or two fields more."""
        data, sps, pps = unescape(nal.payload[:_HEADER]), self._sps, self._pps
        bits = BitReader(data)
        header = u(_one(bits), 1)  # first_slice_segment_in_pic_flag
        header += u(bits.u(1), 1) if nal.kind in _IRAP else ""  # no_output_of_prior_pics_flag
        bits.ue()
        header += ue(1)  # slice_pic_parameter_set_id
        start = bits.place
        bits.u(pps.extra_slice_bits)
        slice_type = bits.ue()
        bits.u(pps.output_flag_present)
        header += bits.between(start, bits.place)
        temporal = 0
        if nal.kind in _IDR:
            header += u(0, sps.poc_bits)  # slice_pic_order_cnt_lsb
        else:
            start = bits.place
            bits.u(sps.poc_bits)
            _zero(bits)  # short_term_ref_pic_set_sps_flag: there are none
            for _ in range(bits.ue() + bits.ue()):
                bits.ue()
                bits.u(1)
            temporal = bits.u(1) if sps.temporal_mvp else 0
            header += bits.between(start, bits.place)
        header += u(0, 1)  # inter_layer_pred_enabled_flag
        start = bits.place
        self._skip_rest(bits, slice_type, temporal)
        header += bits.between(start, bits.place)
        # A bit and zeros end the header (7.3.2.12), so that the pictures behind it are escaped as they were.
        old = escape(data[: bits.place // 8 + 1])
        return escape(closed(header)) + nal.payload[len(old) :]

    def _skip_rest(self, bits: BitReader, slice_type: int, temporal: int) -> None:
        """Fields from sample adaptive offset to the end of the header (7.3.6.1)."""
        sps, pps = self._sps, self._pps
        offset = [bits.u(1), bits.u(1)] if sps.adaptive_offset else [0]
        if slice_type != 2:  # P or B
            both = slice_type == 0
            counts = list(pps.references)
            if bits.u(1):
                counts = [bits.ue(), bits.ue() if both else counts[1]]
            bits.u(both)  # mvd_l1_zero_flag
            bits.u(pps.cabac_init_present)
            if temporal:
                first = bits.u(1) if both else 1
                if counts[0 if first else 1] > 0:
                    bits.ue()
            bits.ue()  # five_minus_max_num_merge_cand
        bits.se()  # slice_qp_delta
        for _ in range(2 * pps.slice_chroma_offsets):
            bits.se()
        disabled = pps.deblocking_disabled
        if pps.deblocking_override and bits.u(1):
            disabled = bits.u(1)
            for _ in range(0 if disabled else 2):
                bits.se()
        if pps.loop_filter_across and (any(offset) or not disabled):
            bits.u(1)
        if pps.rows_in_parallel and (entries := bits.ue()):
            length = bits.ue() + 1
            bits.u(entries * length)


class _Sps:
    """The needed fields of a sequence parameter set (7.3.2.2)."""

    def __init__(self, data: bytes) -> None:
        bits = BitReader(data)
        self.vps = bits.u(4)
        _zero(bits, 3)  # sps_max_sub_layers_minus1
        bits.u(1)
        start = bits.place
        bits.u(96)
        self.profile_tier_level = bits.between(start, bits.place)
        bits.ue()
        self.chroma = bits.ue()
        if self.chroma == 3:
            _zero(bits)  # separate_colour_plane_flag
        self.size = bits.ue(), bits.ue()
        self.window = [bits.ue() for _ in range(4)] if bits.u(1) else []
        self.depths = bits.ue(), bits.ue()  # luma and chroma, less 8
        start = bits.place
        self.poc_bits = bits.ue() + 4
        self._poc = bits.between(start, bits.place)
        bits.u(1)
        self.buffering = [bits.ue() for _ in range(3)]
        start = bits.place
        for _ in range(6):
            bits.ue()
        _zero(bits)  # scaling_list_enabled_flag
        bits.u(1)
        self.adaptive_offset = bits.u(1)
        _zero(bits)  # pcm_enabled_flag
        if bits.ue():
            raise RuntimeError("the encoder put sets of reference pictures into its SPS")
        _zero(bits)  # long_term_ref_pics_present_flag
        self.temporal_mvp = bits.u(1)
        bits.u(1)
        self._tools = bits.between(start, bits.place)

    def on_layer_1(self) -> bytes:
        """The short form of layers above the base (F.7.3.2.2.1), whose pictures the VPS describes."""
        bits = u(self.vps, 4) + u(7, 3) + ue(1) + u(0, 1) + self._poc + self._tools
        bits += u(0, 1)  # vui_parameters_present_flag
        return closed(bits + u(1, 1) + u(0b0100, 4) + u(0, 4) + u(0, 1))  # its multilayer extension


class _Pps:
    """The needed fields of a picture parameter set (7.3.2.3)."""

    def __init__(self, data: bytes) -> None:
        bits = BitReader(data)
        bits.ue()
        bits.ue()
        start = bits.place
        _zero(bits)  # dependent_slice_segments_enabled_flag
        self.output_flag_present, self.extra_slice_bits = bits.u(1), bits.u(3)
        bits.u(1)
        self.cabac_init_present = bits.u(1)
        self.references = bits.ue(), bits.ue()
        bits.se()
        bits.u(2)
        if bits.u(1):  # cu_qp_delta_enabled_flag
            bits.ue()
        bits.se()
        bits.se()
        self.slice_chroma_offsets = bits.u(1)
        _zero(bits, 2)  # weighted prediction
        bits.u(1)
        _zero(bits)  # tiles_enabled_flag
        self.rows_in_parallel, self.loop_filter_across = bits.u(1), bits.u(1)
        self.deblocking_override = self.deblocking_disabled = 0
        if bits.u(1):
            self.deblocking_override, self.deblocking_disabled = bits.u(1), bits.u(1)
            for _ in range(0 if self.deblocking_disabled else 2):
                bits.se()
        _zero(bits, 2)  # scaling lists, modification of reference lists
        bits.ue()
        _zero(bits)  # slice_segment_header_extension_present_flag
        bits.place = start
        self._rest = bits.content()

    def on_layer_1(self) -> bytes:
        return closed(ue(1) + ue(1) + self._rest)


def _vps(data: bytes, sps: _Sps) -> bytes:
    """The base layer's VPS (7.3.2.1), now of two layers, and its extension (F.7.3.2.1.1)."""
    bits = BitReader(data)
    start = bits.u(4), bits.u(2)
    bits.u(6)
    kept = bits.between(bits.place, bits.place + 20 + 96 + 1)
    _zero(bits, 3)  # vps_max_sub_layers_minus1
    bits.u(17 + 96 + 1)
    buffering = [bits.ue() for _ in range(3)]
    base = u(start[0], 4) + u(start[1], 2) + u(1, 6) + kept + "".join(map(ue, buffering))
    base += u(1, 6) + ue(1) + u(0b11, 2)  # vps_max_layer_id; a second set, of both layers
    base += u(0, 1) + u(1, 1)  # no timing, which the SPS has; an extension
    base += "1" * (-len(base) % 8)
    return closed(base + _vps_extension(sps) + u(0, 1))


def _vps_extension(sps: _Sps) -> str:
    level = sps.profile_tier_level[88:]
    bits = level + u(0, 1)  # splitting_flag
    bits += u(0b0100_0000_0000_0000, 16)  # scalability_mask_flag: views
    bits += u(0, 3) + u(1, 1) + u(1, 6) + u(1, 1)  # dimension_id of 1 bit; layer 1 is view order 1
    bits += u(1, 4) + u(0, 1) + u(1, 1)  # view_id_val of 1 bit: 0, 1
    bits += u(1, 1)  # direct_dependency_flag
    bits += u(0, 1) + u(0, 1) + u(0, 1)  # sub-layers, max_tid_ref, default_ref_layers_active_flag
    bits += ue(2) + u(1, 1) + _multiview_main(sps)  # profiles: of all, of the base layer, of layer 1
    bits += ue(0) + u(0, 2)  # num_add_olss, default_output_layer_idc: all layers are shown
    bits += u(1, 2) + u(2, 2)  # profile_tier_level_idx of both layers
    bits += ue(0) + _rep_format(sps)
    bits += u(1, 1) + u(1, 1)  # max_one_active_ref_layer_flag, vps_poc_lsb_aligned_flag
    bits += u(0, 1) + ue(sps.buffering[0]) * 2 + "".join(map(ue, sps.buffering[1:]))  # dpb_size
    bits += ue(0) + u(1, 1) + u(0, 2)  # direct dependency: of samples
    return bits + ue(0) + u(0, 1)  # no further data, no VUI


def _multiview_main(sps: _Sps) -> str:
    """profile_tier_level of G.11.1.1."""
    space_and_tier, level = sps.profile_tier_level[:3], sps.profile_tier_level[88:]
    compatible = u(1 << (31 - _PROFILE), 32)
    source = sps.profile_tier_level[40:44]  # progressive, interlaced, not packed, frames only
    limits = u(0b111_110_001, 9)  # 12, 10 and 8 bit, 4:2:2, 4:2:0; not monochrome, ...; lower bit rate
    return space_and_tier + u(_PROFILE, 5) + compatible + source + limits + u(0, 35) + level


def _rep_format(sps: _Sps) -> str:
    bits = u(sps.size[0], 16) + u(sps.size[1], 16) + u(1, 1) + u(sps.chroma, 2)
    bits += u(sps.depths[0], 4) + u(sps.depths[1], 4)
    return bits + u(bool(sps.window), 1) + "".join(map(ue, sps.window))


def _displays() -> bytes:
    """SEI message 176 (G.14.2.3): view 0 is for the left eye, view 1 for the right; the display is any."""
    display = ue(0) + ue(1) + u(0, 6) + u(0, 1) + u(0, 1)  # views, width as 0 of 1 bit, no shift
    content = closed(ue(31) + u(0, 1) + ue(0) + display + u(0, 1))
    return bytes([176, len(content)]) + content + b"\x80"


def _one(bits: BitReader) -> int:
    if not bits.u(1):
        raise RuntimeError(
            f"bit {bits.place - 1} of a header by the encoder isn't 1, as views in layers need"
        )
    return 1


def _zero(bits: BitReader, length: int = 1) -> None:
    if bits.u(length):
        raise RuntimeError(f"bits before {bits.place} of a header by the encoder aren't 0, as layers need")
