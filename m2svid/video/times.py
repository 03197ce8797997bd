"""When frames are shown: times that can be relied on, and gaps between them."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median

_STEADY = 0.95  # share of the intervals that must be alike for a gap to mean missing frames


def usable(times: Sequence[int | None]) -> list[int]:
    """Numbers of the frames whose times increase, as many as possible: the longest increasing subsequence."""
    ends: list[int] = []  # smallest last time of a sequence of each length
    frames: list[int] = []  # whose time that is
    before: dict[int, int | None] = {}
    for index, time in enumerate(times):
        if time is None:
            continue
        length = bisect.bisect_left(ends, time)
        if ends[length : length + 1] == [time]:
            continue  # of frames of one time, the first keeps it
        before[index] = frames[length - 1] if length else None
        ends[length:] = [time, *ends[length + 1 :]]
        frames[length:] = [index, *frames[length + 1 :]]
    chain: list[int] = []
    index = frames[-1] if frames else None
    while index is not None:
        chain.append(index)
        index = before[index]
    return chain[::-1]


def repaired(times: Sequence[int | None], kept: Sequence[int], period: Fraction) -> tuple[int, ...]:
    """Increasing times: those of the frames `kept`, and of the others what lies evenly between them.

    Args:
        times: one a frame; None = not known.
        kept: numbers of the frames whose times are usable, see above.
        period: time of a frame at the film's average rate, for frames outside of those.
    """
    if not kept:
        return tuple(round(index * period) for index in range(len(times)))
    first, last = kept[0], kept[-1]
    result = [round(times[first] - (first - index) * period) for index in range(first)]
    for left, right in pairwise(kept):
        step = Fraction(times[right] - times[left], right - left)
        result += [times[left] + int(place * step) for place in range(right - left)]
    result += [round(times[last] + place * period) for place in range(len(times) - last)]
    for index in range(1, len(result)):  # where the unit of time is too coarse for another frame
        result[index] = max(result[index], result[index - 1] + 1)
    return tuple(result)


def misplaced(times: Sequence[int | None], kept: Sequence[int], period: Fraction) -> list[int]:
    """Numbers of the frames that belong elsewhere: after a loss, decoders give old frames among newer ones.

    Their own times lie in a gap of the times that are usable.

    Args:
        times: one a frame; None = not known.
        kept: numbers of the frames whose times are usable, see above.
        period: time of a frame at the film's average rate.
    """
    shown, others = [times[index] for index in kept], set(range(len(times))) - set(kept)
    found = []
    for index in sorted(index for index in others if times[index] is not None):
        place = bisect.bisect_left(shown, times[index])
        near = [abs(time - times[index]) for time in shown[max(0, place - 1) : place + 1]]
        if 0 < place < len(shown) and min(near) > period / 2:
            found.append(index)
    return found


def gaps(times: Sequence[int]) -> dict[int, int]:
    """Number of the frame after a gap -> how many are missing before it, if the others follow evenly."""
    intervals = [later - time for time, later in pairwise(times)]
    usual = median(intervals) if intervals else 0
    alike = sum(abs(interval - usual) <= max(1, usual / 5) for interval in intervals)
    if alike < _STEADY * len(intervals):
        return {}
    missing = {index: round(interval / usual) - 1 for index, interval in enumerate(intervals, 1)}
    return {index: count for index, count in missing.items() if count > 0}


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as players show a time: 0:01:02.5."""
    tenths = round(seconds * 10)
    return f"{tenths // 36000}:{tenths // 600 % 60:02d}:{tenths // 10 % 60:02d}.{tenths % 10}"
