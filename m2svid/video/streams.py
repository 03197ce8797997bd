"""A plan for the sound, subtitles and attachments of a source.

That is decided before the work begins, by trying every stream against the container: what it refuses would
otherwise show hours later, when the film is joined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from m2svid.errors import UserError
from m2svid.files import url
from m2svid.video.cut import part_of
from m2svid.video.decode import is_cover
from m2svid.video.read import Video
from m2svid.video.trial import first_packets, fits, refused

_KINDS = ("audio", "subtitle", "attachment")
_TEXT = {"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"}
_LOSSY = "aac"  # players of MP4 know no lossless sound
_SOUND = {"matroska": "flac", "mov": "alac", "mp4": _LOSSY}
_WORDS = {"matroska": "subrip", "mov": "mov_text", "mp4": "mov_text"}
# Where sound begins late in a transport stream, nothing before tells its rate: look further, in µs and bytes.
_FAR = {"analyzeduration": str(600 * 10**6), "probesize": str(200 << 20)}


@dataclass(frozen=True)
class Choice:
    """The user's choices.

    Attributes:
        drop: streams to leave out, numbers and kinds between commas: "2,subtitle"; None = none.
        convert: sound that the container doesn't take, although that loses quality.
    """

    drop: str | None = None
    convert: bool = False


@dataclass(frozen=True)
class Kept:
    """A stream that the result gets.

    Attributes:
        index: number in the source.
        encoder: that converts it; None = it is copied.
        without: numbers of its packets that can't be written.
    """

    index: int
    encoder: str | None = None
    without: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Others:
    """The plan for the streams beside the film.

    Attributes:
        path: the source.
        start: moment of the source at which the result begins, s.
        stop: moment at which it ends, s; None = with the source.
        kept: streams that the result gets.
        told: a line for the user for each stream that isn't simply copied.
    """

    path: Path
    start: Fraction = Fraction(0)
    stop: Fraction | None = None
    kept: tuple[Kept, ...] = ()
    told: tuple[str, ...] = ()

    def packets(self, source: InputContainer) -> Iterator[tuple[int, av.Packet | None]]:
        """Stream and packet, in the order of the source; None for every stream when all have ended."""
        kept = {each.index: each for each in self.kept}
        streams = [source.streams[index] for index in kept if source.streams[index].type != "attachment"]
        counts = Counter[int]()
        whole = self.stop is None
        packets = source.demux(streams) if whole else part_of(source, streams, self.start, self.stop)
        for packet in packets if streams else ():
            index = packet.stream_index
            if packet.dts is not None:
                if counts[index] not in kept[index].without:
                    yield index, packet
                counts[index] += 1
        yield from ((stream.index, None) for stream in streams)


def container_format(suffix: str) -> str:
    """FFmpeg's name of the container that the end of a file's name asks for."""
    return {".mkv": "matroska", ".mov": "mov"}.get(suffix.lower(), "mp4")


@contextmanager
def open_source(path: Path) -> Iterator[InputContainer]:
    """Open a source; of one whose sound is not found at its beginning, look further into it."""
    with av.open(url(path)) as source:
        found = all(map(_is_known, source.streams.audio))
        if found:
            yield source
    if not found:
        with av.open(url(path), options=_FAR) as source:
            yield source


def best_container(path: Path, allowed: Sequence[str], drop: str | None = None) -> str:
    """Suffix of the container for a source: the first, or Matroska where only that takes more of its streams.

    Args:
        path: the source.
        allowed: suffixes, the best known one first.
        drop: streams that don't count, as in `Choice`.
    """
    best, *rest = allowed
    if ".mkv" not in rest:
        return best
    container = container_format(best)
    try:
        with open_source(path) as source:
            streams, dropped = _to_copy(source), _dropped(source, drop)
            first = _first(source)
            for stream in streams:
                packets = first[stream.index]
                if stream.index in dropped or not _is_known(stream) or fits(stream, packets, container):
                    continue
                if _encoder(stream, packets, container) in (None, _LOSSY):
                    return ".mkv"
    except (av.FFmpegError, OSError):
        pass  # opening it as a film will say what is wrong
    return best


def plan_others(video: Video, output: Path, allowed: Collection[str], choice: Choice) -> Others:
    """Decide what becomes of every stream beside the film.

    Text and sound that the container doesn't take are converted where that loses nothing.

    Args:
        video: the source.
        output: the result.
        allowed: suffixes that the result could have instead.
        choice: of the user.

    Raises:
        UserError: streams do not fit, and the user has a choice.
    """
    kept, told, misfits = [], [], []
    container = container_format(output.suffix)
    with open_source(video.path) as source:
        dropped = _dropped(source, choice.drop)
        told += _not_copied(source)
        first = _first(source)
        for stream in _to_copy(source):
            name, packets = _name(stream), first[stream.index]
            if stream.index in dropped:
                told.append(f"{name} is left out, as --drop-streams says")
            elif not _is_known(stream):
                told.append(f"{name} is left out: no sound is found in it")
            elif fits(stream, packets, container):
                kept.append(Kept(stream.index))
            else:
                encoder = _encoder(stream, packets, container)
                better = {each for each in allowed if fits(stream, packets, container_format(each))}
                if better and (encoder is None or (encoder == _LOSSY and not choice.convert)):
                    misfits.append(_Misfit(name, stream.index, better, encoder))
                elif encoder:
                    kept.append(Kept(stream.index, encoder))
                    told.append(f"{name} becomes {encoder}: {output.suffix} does not take it as it is")
                else:
                    told.append(f"{name} is left out: no container of this codec takes it")
    if misfits:
        raise _refusal(video.path, output, misfits)
    return Others(video.path, video.info.start, None, tuple(kept), tuple(told))


def without_refused(others: Others, suffix: str) -> Others:
    """Try every kept stream as a whole, and leave out what can't be written of it."""
    kept, told = [], list(others.told)
    for each in others.kept:
        with open_source(others.path) as source:
            stream = source.streams[each.index]
            name, alone = _name(stream), replace(others, kept=(each,))
            packets = (packet for _, packet in alone.packets(source))
            places = refused(stream, packets, container_format(suffix), each.encoder)
        if places is None:
            told.append(f"{name} is left out: it can't be written into {suffix}")
        else:
            kept.append(replace(each, without=places))
            told += [f"{name}: {len(places)} damaged packets are left out"] if places else []
    return replace(others, kept=tuple(kept), told=tuple(told))


@dataclass(frozen=True)
class _Misfit:
    name: str
    index: int
    better: set[str]  # suffixes of containers that take it
    encoder: str | None


def _refusal(path: Path, output: Path, misfits: Sequence[_Misfit]) -> UserError:
    common = set.intersection(*[each.better for each in misfits])
    ways = [f"name the output {min(common, key='.mkv .mov .mp4 .m4v'.index)}"] if common else []
    if all(each.encoder for each in misfits):
        ways.append(f"have it converted to {_LOSSY} with --convert-streams")
    ways.append(f"leave it out with --drop-streams {','.join(str(each.index) for each in misfits)}")
    named = " and ".join(each.name for each in misfits)
    return UserError(f"{output} can't hold {named} of {path}: {', or '.join(ways)}")


def _dropped(source: InputContainer, drop: str | None) -> set[int]:
    dropped: set[int] = set()
    streams = _to_copy(source)
    for word in filter(None, (word.strip() for word in (drop or "").split(","))):
        found = {stream.index for stream in streams if word in (str(stream.index), stream.type, "all")}
        if not found and word not in (*_KINDS, "all"):
            there = ", ".join(map(_name, streams)) or "none"
            raise UserError(
                f"--drop-streams takes numbers of streams, {', '.join(_KINDS)} or all, not {word!r}; "
                f"streams beside the film: {there}"
            )
        dropped |= found
    return dropped


def _not_copied(source: InputContainer) -> list[str]:
    films = [stream for stream in source.streams.video if not is_cover(stream)]
    others = [stream for stream in source.streams if stream.type not in _KINDS and stream not in films[:1]]
    return [f"{_name(stream)} is not taken over" for stream in others]


def _name(stream: av.stream.Stream) -> str:
    kind = stream.type or "of an unknown kind"
    if stream.type == "video":
        kind = "cover art" if is_cover(stream) else "another video"
    codec = f", {stream.codec_context.name}" if stream.codec_context and stream.type in _KINDS else ""
    return f"stream {stream.index} ({kind}{codec})"


def _to_copy(source: InputContainer) -> list[av.stream.Stream]:
    return [stream for stream in source.streams if stream.type in _KINDS]


def _is_known(stream: av.stream.Stream) -> bool:
    """True if sound was found in it: a track without has no rate."""
    return stream.type != "audio" or bool(stream.codec_context and stream.codec_context.sample_rate)


def _encoder(stream: av.stream.Stream, packets: Sequence[av.Packet], container: str) -> str | None:
    """The encoder that makes something of a stream that the container takes."""
    codec = stream.codec_context
    if codec is None or (stream.type == "subtitle" and codec.name not in _TEXT):
        return None
    encoder = _SOUND[container] if stream.type == "audio" else _WORDS[container]
    return encoder if fits(stream, packets, container, encoder) else None


def _first(source: InputContainer) -> Mapping[int, list[av.Packet]]:
    return first_packets(source, [stream for stream in _to_copy(source) if stream.type != "attachment"])
