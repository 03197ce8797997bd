"""Joining pieces into the film, with the sound, subtitles, chapters and attachments of the source."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.container import Flags, InputContainer, OutputContainer

from m2svid.errors import UserError
from m2svid.files import url, whole
from m2svid.video import matroska as ebml
from m2svid.video.carry import carry
from m2svid.video.cut import chapters_of
from m2svid.video.layouts import Layout, displayed_size
from m2svid.video.mp4_boxes import add_stereo_boxes
from m2svid.video.shots import Survey
from m2svid.video.streams import Others, container_format, open_source, without_refused
from m2svid.video.write import DEPTH_TAG, Encoding, piece_headers, read_piece, same_priority

log = logging.getLogger(__name__)


def assemble(
    pieces: Sequence[Path],
    encoding: Encoding,
    layout: Layout,
    time_base: Fraction,
    survey: Survey,
    others: Others | None,
    output: Path,
) -> None:
    """Write the film; it appears under its name only when complete.

    What can't be written of other streams, for instance a damaged packet, is left out with a warning: the
    pictures are worth more.

    Args:
        pieces: encoded windows in order, together all frames.
        encoding: with which they were encoded.
        layout: of the views in the picture, which the container tells.
        time_base: unit of the frames' times, s.
        survey: times of the frames.
        others: streams of the source to carry over; None = nothing is.
        output: the film.

    Raises:
        UserError: it can't be written.
    """
    with whole(output, "when that is mended, the same command joins the finished pieces") as temporary:
        try:
            _write(pieces, encoding, layout, time_base, survey, others, temporary, output.suffix)
        except (av.error.ArgumentError, av.error.InvalidDataError) as error:
            mended = others and without_refused(others, output.suffix)
            if mended == others:
                raise UserError(f"{output} can't be written: {error.strerror}") from error
            for line in mended.told[len(others.told) :]:
                log.warning("%s", line)
            _write(pieces, encoding, layout, time_base, survey, mended, temporary, output.suffix)
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error
        if container_format(output.suffix) == "matroska":
            shown = displayed_size(layout, encoding.width, encoding.height, encoding.aspect)
            ebml.describe(temporary, layout, shown)
        else:
            add_stereo_boxes(temporary, layout, encoding.fov)


def _write(
    pieces: Sequence[Path],
    encoding: Encoding,
    layout: Layout,
    time_base: Fraction,
    survey: Survey,
    others: Others | None,
    path: Path,
    suffix: str,
) -> None:
    form = container_format(suffix)
    if encoding.encoder == "nvenc" and len({*map(piece_headers, pieces)}) > 1:
        raise UserError(
            "the film was continued on another card or driver, whose NVENC encodes otherwise: give --restart"
        )
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(av.open(url(path), "w", format=form))
        target.flags |= Flags.bitexact.value  # no random ids: the same film is the same file
        if encoding.layers:
            stream = stack.enter_context(_layered_stream(target, pieces[0]))
        else:
            stream = target.add_stream(encoding.encoder_name, rate=encoding.rate)
            encoding.apply(stream.codec_context)
        stream.time_base = time_base
        stream.metadata.update(ebml.tags(layout) if form == "matroska" else {})
        stream.metadata.update({DEPTH_TAG: encoding.depth} if encoding.depth else {})
        packets = _timed(pieces, survey, stream, time_base)
        if others is not None:
            source = stack.enter_context(open_source(others.path))
            packets = _merged(packets, _carried(source, target, others))
        with same_priority():
            target.start_encoding()
        for packet in packets:
            target.mux(packet)


@contextlib.contextmanager
def _layered_stream(target: OutputContainer, piece: Path) -> Iterator[av.VideoStream]:
    """Add a stream of two layers, which FFmpeg knows only from its packets, while the context lasts."""
    headers, first = piece_headers(piece), next(read_piece(piece))
    with av.open(io.BytesIO(headers + first.data), format="hevc") as raw:
        stream = target.add_stream_from_template(raw.streams.video[0], opaque=True)
        stream.disposition |= av.stream.Disposition.multilayer
        stream.codec_context.extradata, stream.codec_context.codec_tag = headers, "hvc1"
        yield stream


def _carried(source: InputContainer, target: OutputContainer, others: Others) -> Iterator[av.Packet]:
    """Set the other streams up now; their packets come when they are asked for."""
    target.metadata.update(source.metadata)
    target.set_chapters(chapters_of(source.chapters(), others.start, others.stop))
    carries = {each.index: carry(target, source.streams[each.index], each.encoder) for each in others.kept}

    def packets() -> Iterator[av.Packet]:
        for index, packet in others.packets(source):
            for ready in carries[index](packet):
                ready.pts, ready.dts = (
                    time if time is None else time - round(others.start / ready.time_base)
                    for time in (ready.pts, ready.dts)
                )
                yield ready

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
