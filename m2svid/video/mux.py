"""Joining pieces into the film, with the sound, subtitles, chapters and attachments of the source."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.container import Flags, InputContainer, OutputContainer

from m2svid.errors import UserError
from m2svid.files import url, whole
from m2svid.video import matroska as ebml
from m2svid.video.decode import is_cover
from m2svid.video.layouts import Layout
from m2svid.video.mp4_boxes import add_stereo_boxes
from m2svid.video.read import Video
from m2svid.video.shots import Survey
from m2svid.video.write import DEPTH_TAG, ENCODERS, Encoding, read_piece

log = logging.getLogger(__name__)

_COPIED = ("audio", "subtitle", "attachment")


def check_streams(video: Video, output: Path) -> None:
    """Check, before the work begins, that the container takes all streams that will be copied.

    Raises:
        UserError: a stream does not fit into it.
    """
    if not video.is_container:
        return
    # the file is not made: that would only happen with its header
    with (
        av.open(url(video.path)) as source,
        av.open(url(output), "w", format=_format(output)) as target,
    ):
        for stream in _to_copy(source):
            try:
                _add_copy(target, stream)
            except ValueError as error:
                name = stream.codec_context.name if stream.codec_context else stream.type
                raise UserError(
                    f"stream {stream.index} of {video.path} ({stream.type}, {name}) does not fit into "
                    f"{output.suffix}: name the output .mkv"
                ) from error


def assemble(
    pieces: Sequence[Path],
    encoding: Encoding,
    layout: Layout,
    time_base: Fraction,
    survey: Survey,
    video: Video | None,
    output: Path,
) -> None:
    """Write the film; it appears under its name only when complete.

    Args:
        pieces: encoded windows in order, together all frames.
        encoding: with which they were encoded.
        layout: of the views in the picture, which the container tells.
        time_base: unit of the frames' times, s.
        survey: times of the frames.
        video: the source, whose other streams are copied; None = nothing is copied.
        output: the film.

    Raises:
        UserError: it can't be written.
    """
    matroska = _format(output) == "matroska"
    again = "run the same command again"
    with whole(output, again) as temporary:
        try:
            with contextlib.ExitStack() as stack:
                target = stack.enter_context(av.open(url(temporary), "w", format=_format(output)))
                target.flags |= Flags.bitexact.value  # no random ids: the same film is the same file
                stream = target.add_stream(ENCODERS[encoding.codec], rate=encoding.rate)
                encoding.apply(stream.codec_context)
                stream.time_base = time_base
                stream.metadata.update(ebml.tags(layout) if matroska else {})
                stream.metadata.update({DEPTH_TAG: encoding.depth} if encoding.depth else {})
                packets = _timed(pieces, survey, stream, time_base)
                if video is not None and video.is_container:
                    source = stack.enter_context(av.open(url(video.path)))
                    packets = _merged(packets, _copies(source, target, video.info.start))
                for packet in packets:
                    target.mux(packet)
        except av.FFmpegError as error:
            raise UserError(f"{output} can't be written: {error.strerror}; {again}") from error
        describe = ebml.add_projection if matroska else add_stereo_boxes
        describe(temporary, layout)


def _format(output: Path) -> str:
    return {".mkv": "matroska", ".mov": "mov"}.get(output.suffix.lower(), "mp4")


def _to_copy(source: InputContainer) -> list[av.stream.Stream]:
    return [stream for stream in source.streams if stream.type in _COPIED]


def left_out(video: Video) -> list[str]:
    """One line for the user for each stream of the source that the result can't have."""
    if not video.is_container:
        return []
    with av.open(url(video.path)) as source:
        films = [stream for stream in source.streams.video if not is_cover(stream)]
        others = [s for s in source.streams if s.type not in _COPIED and s not in films[:1]]
        return [f"stream {stream.index} ({_kind(stream)}) is not taken over" for stream in others]


def _kind(stream: av.stream.Stream) -> str:
    if stream.type == "video":
        return "cover art" if is_cover(stream) else "another video"
    return stream.type or "of an unknown kind"


def _add_copy(target: OutputContainer, stream: av.stream.Stream) -> av.stream.Stream:
    copy = target.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def _copies(source: InputContainer, target: OutputContainer, start: Fraction) -> Iterator[av.Packet]:
    """Set the other streams up now; the packets of the source come when they are asked for.

    Their times count from `start`, s.
    """
    target.metadata.update(source.metadata)
    target.set_chapters(source.chapters())
    copies = {stream.index: _add_copy(target, stream) for stream in _to_copy(source)}
    read = [stream for stream in _to_copy(source) if stream.type != "attachment"]

    def packets() -> Iterator[av.Packet]:
        for packet in source.demux(read) if read else ():
            if packet.dts is not None:
                late = round(start / packet.time_base)
                packet.dts -= late
                if packet.pts is not None:
                    packet.pts -= late
                packet.stream = copies[packet.stream_index]
                yield packet

    return packets()


def _timed(
    pieces: Sequence[Path], survey: Survey, stream: av.VideoStream, time_base: Fraction
) -> Iterator[av.Packet]:
    """The packets with the source's times.

    Decoding times are the sorted presentation times, late by as many frames as the encoder reorders.
    """
    delay = max(_reordering(path) for path in pieces)
    durations = survey.durations()
    times = survey.times
    period = max(1, min(durations))
    first = 0  # frame number of the piece's first picture
    place = 0
    for path in pieces:
        count = 0
        for packet in read_piece(path):
            shown = first + packet.order
            timed = av.Packet(packet.data)
            timed.pts = times[shown]
            timed.dts = times[place - delay] if place >= delay else times[0] - (delay - place) * period
            timed.duration = durations[shown]
            timed.time_base = time_base
            timed.is_keyframe = packet.key
            timed.stream = stream
            yield timed
            place, count = place + 1, count + 1
        first += count
    if place != len(times):
        raise RuntimeError(f"{place} encoded pictures for {len(times)} frames")


def _reordering(path: Path) -> int:
    return max(place - packet.order for place, packet in enumerate(read_piece(path)))


def _merged(video: Iterator[av.Packet], others: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """Merge both by decoding time, so that the muxer need not keep many packets."""
    pending = next(others, None)
    for packet in video:
        while pending is not None and pending.dts * pending.time_base <= packet.dts * packet.time_base:
            yield pending
            pending = next(others, None)
        yield packet
    while pending is not None:
        yield pending
        pending = next(others, None)
