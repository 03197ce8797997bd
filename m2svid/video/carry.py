"""Streams carried from one container into another: packets as they are, or encoded anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import av
from av.container import OutputContainer

Carry = Callable[[av.Packet | None], Iterable[av.Packet]]  # None: the source has ended

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_SAMPLES = {"aac": ("fltp", "fltp"), "flac": ("s16", "s32"), "alac": ("s16p", "s32p")}  # plain and fine ones
_AAC_RATE = 128_000  # bit/s of each channel
# what AVI and WAV mean by a number of channels
_LAYOUTS = {"1 channels": "mono", "2 channels": "stereo", "6 channels": "5.1", "8 channels": "7.1"}


def carry(target: OutputContainer, stream: av.stream.Stream, encoder: str | None = None) -> Carry:
    """Add a stream of another container.

    Args:
        target: gets it.
        stream: of the source.
        encoder: of sound (aac, flac, alac) or text (mov_text, subrip); None = the packets stay as they are.

    Returns:
        From a packet of the source to packets that can be written.

    Raises:
        ValueError: the container doesn't take the stream, or it can't be decoded to be converted.
    """
    if encoder is None:
        copy = target.add_stream_from_template(stream, opaque=True)
        write = _copied(copy)
    elif stream.type == "audio":
        copy = _sound(target, stream, encoder)
        write = _Sound(stream, copy)
    else:
        copy = target.add_stream(encoder)
        copy.time_base = stream.time_base
        stream.codec_context.open(strict=False)
        copy.codec_context.subtitle_header = stream.codec_context.subtitle_header
        write = _text(stream, copy)
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return write


def _copied(copy: av.stream.Stream) -> Carry:
    def write(packet: av.Packet | None) -> Iterator[av.Packet]:
        if packet is not None:
            packet.stream = copy
            yield packet

    return write


def _sound(target: OutputContainer, stream: av.AudioStream, encoder: str) -> av.AudioStream:
    rate, source = stream.codec_context.sample_rate, stream.codec_context
    if source.format is None:
        raise ValueError("the decoder can't tell what the sound is like")
    if encoder == "aac":
        rate = max(filter(rate.__ge__, _AAC_RATES), default=_AAC_RATES[0])
    copy = target.add_stream(encoder, rate=rate)
    fine = source.format.bits > 16 and not source.format.name.startswith(("flt", "dbl"))
    copy.codec_context.format = _SAMPLES[encoder][fine]
    copy.codec_context.layout = _LAYOUTS.get(source.layout.name, source.layout.name)
    copy.codec_context.bit_rate = _AAC_RATE * source.channels if encoder == "aac" else 0
    return copy


class _Sound:
    def __init__(self, stream: av.AudioStream, copy: av.AudioStream) -> None:
        self._stream, self._copy, self._resampler = stream, copy, None

    def __call__(self, packet: av.Packet | None) -> Iterator[av.Packet]:
        context = self._copy.codec_context
        if self._resampler is None:  # an encoder knows the length of its frames when it is open
            context.open(strict=False)
            self._resampler = av.AudioResampler(
                context.format, context.layout, context.sample_rate, context.frame_size or None
            )
        frames = self._stream.codec_context.decode(packet)
        for frame in frames if packet is not None else [*frames, None]:
            for resampled in self._resampler.resample(frame):
                yield from self._copy.encode(resampled)
        if packet is None:
            yield from self._copy.encode(None)


def _text(stream: av.subtitles.stream.SubtitleStream, copy: av.subtitles.stream.SubtitleStream) -> Carry:
    def write(packet: av.Packet | None) -> Iterator[av.Packet]:
        words = packet and stream.codec_context.decode2(packet)
        if words:
            text = copy.codec_context.encode_subtitle(words)
            text.pts, text.dts, text.duration = packet.pts, packet.dts, packet.duration
            text.time_base, text.stream = packet.time_base, copy
            yield text

    return write
