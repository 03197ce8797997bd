"""The verb `study make`: pages and films with which people compare methods, blind."""

from __future__ import annotations

import hmac
import logging
import random
import secrets
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.progress import Progress

from m2svid.errors import UserError
from m2svid.files import whole
from m2svid.pages.fill import fill
from m2svid.study.films import Clip, encode, find_clips, split_names
from m2svid.study.key import Film, Key, Kind
from m2svid.video.layouts import LAYOUTS
from m2svid.video.read import parse_rate

log = logging.getLogger(__name__)

_SIDE_BY_SIDE = LAYOUTS["sbs"].suffix  # by which players choose the mode


def make(
    methods: list[str],
    output: Path = Path("study"),
    kind: Kind = "desktop",
    left: Path | None = None,
    hole: Path | None = None,
    sets: int = 1,
    lists: int = 1,
    fps: str | None = None,
    crf: int = 6,
    instructions: Path | None = None,
    seed: int | None = None,
) -> dict[str, str]:
    """Make a study: `for_participants` is a folder to give away, `key.json` stays with you.

    Its page opens from the disk in any browser, without a server, and hands the participant a file of answers
    to send back. Neither the page nor names or dates of films tell which method made a film. All films are
    encoded anew, in one way: H.264, 4:2:0, without sound.

    Args:
        methods: folders with the right views (or stereo films) of each method, NAME=FOLDER.
        output: folder that doesn't exist yet.
        kind: desktop = all films of a video get ranks on one page; headset = side-by-side films of two
            methods, numbered for a 3D player, with a sheet for the choices; more methods make every pair.
        left: folder of the left views; if not given, the first method's films show them too.
        hole: folder of the masks of holes, white = hole, which the desktop's page shows as reference.
        sets: of a desktop study: parts into which the videos are drawn; a participant takes one or more.
        lists: of a headset study: all pairs in an order of their own, one list for each participant.
        fps: frames per second of all films, such as 8 or 24000/1001; if not given, their own.
        crf: H.264's quality for the judged films, 1 (best, large) to 51.
        instructions: text to show in place of the page's own, paragraphs parted by empty lines.
        seed: of everything that is drawn; if not given, it is drawn too. The key keeps it.

    Returns:
        The page, the key, and the smallest PSNR of an encoded film's luma to the given one's.

    Raises:
        UserError: films are missing or don't fit, which is found before anything is written.
    """
    if output.exists():
        raise UserError(f"--output {output} exists already: name a new folder, so that no study is mixed up")
    if not 1 <= crf <= 51:
        raise UserError(f"--crf must be 1 to 51, not {crf}: browsers don't play lossless H.264")
    for name, number, other in (("sets", sets, "headset"), ("lists", lists, "desktop")):
        if number < 1 or (number > 1 and kind == other):
            raise UserError(f"--{name} {number}: must be at least 1, and a {other} study has no {name}")
    text = None if instructions is None else _paragraphs(instructions)
    clips = find_clips(split_names(methods), left, hole, None if fps is None else parse_rate(fps))
    if sets > len(clips):
        raise UserError(f"--sets {sets} are more than there are videos, {len(clips)}")
    drawn = secrets.randbelow(2**53) if seed is None else seed
    films = {_number(drawn, "right", c.name, method): (c, method) for c in clips for method in c.rights}
    parts = _sets(films, sets, drawn) if kind == "desktop" else _lists(films, lists, drawn)
    study = _number(drawn, "study", kind, str(sets), str(lists), *films)
    with whole(output) as folder:
        given = folder / "for_participants"
        (given / "films").mkdir(parents=True)
        psnr = _encode(films, given / "films", kind, crf, drawn)
        if kind == "headset":
            _number_in_order(parts, given)
        page = {"study": study, "kind": kind, "instructions": text}
        page["parts"] = [[_trial(trial, films, kind, drawn) for trial in part] for part in parts.values()]
        (given / "index.html").write_text(fill("m2svid.study", page))
        Key(
            study,
            kind,
            drawn,
            list(clips[0].rights),
            {number: Film(c.name, method, c.rights[method].facts()) for number, (c, method) in films.items()},
            parts,
            {"codec": "H.264, 4:2:0", "crf": crf, "smallest_luma_psnr": round(psnr, 2)},
        ).write(folder / "key.json")
    log.info("the films are encoded as H.264, 4:2:0, crf %d, luma with at least %.1f dB PSNR", crf, psnr)
    page_path = output / "for_participants" / "index.html"
    return {"page": str(page_path), "key": str(output / "key.json"), "smallest_luma_psnr": f"{psnr:.1f} dB"}


def _paragraphs(path: Path) -> list[str]:
    try:
        text = path.read_text()
    except (OSError, ValueError) as error:
        raise UserError(f"--instructions {path} can't be read as text") from error
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]


_Films = dict[str, tuple[Clip, str]]  # video and method by number


def _number(seed: int, *words: str) -> str:
    """The drawn name of a film, which tells nothing without the seed."""
    return hmac.digest(str(seed).encode(), "\0".join(words).encode(), "sha256").hex()[:12]


def _sets(films: _Films, count: int, seed: int) -> dict[str, list[list[str]]]:
    """The videos drawn into sets. The page draws the order anew for each participant."""
    trials: dict[str, list[str]] = {}
    for number in sorted(films):
        trials.setdefault(films[number][0].name, []).append(number)
    order = random.Random(f"{seed} sets").sample(list(trials.values()), len(trials))
    return {str(part + 1): order[part::count] for part in range(count)}


def _lists(films: _Films, count: int, seed: int) -> dict[str, list[list[str]]]:
    """All pairs of films of one video, order and sides drawn for each list."""
    pairs = [pair for pair in combinations(films, 2) if films[pair[0]][0] is films[pair[1]][0]]
    lists = {}
    for part in range(count):
        draw = random.Random(f"{seed} list {part}")
        lists[str(part + 1)] = [draw.sample(pair, 2) for pair in draw.sample(pairs, len(pairs))]
    return lists


def _encode(films: _Films, folder: Path, kind: Kind, crf: int, seed: int) -> float:
    """Write the films in the order of their numbers, so that dates tell nothing; the smallest PSNR in dB."""
    jobs = {number: (clip.rights[method], clip) for number, (clip, method) in films.items()}
    if kind == "desktop":
        clips = list({clip.name: clip for clip, _ in films.values()}.values())
        jobs |= {_number(seed, "left", clip.name): (clip.left, clip) for clip in clips}
        jobs |= {_number(seed, "mask", clip.name): (clip.mask, clip) for clip in clips if clip.mask}
    psnr = []
    with Progress(transient=True) as progress:
        for number in progress.track(sorted(jobs), description="encode"):
            view, clip = jobs[number]
            beside = clip.left if kind == "headset" else None
            psnr.append(encode(view, clip.rate, crf, folder / f"{number}.mp4", beside))
    return min(psnr)


def _number_in_order(parts: dict[str, list[list[str]]], given: Path) -> None:
    """Give each list its films, named so that a player shows them in the list's order, and a playlist."""
    for part, trials in parts.items():
        folder = given / f"list{part}"
        folder.mkdir()
        names = []
        for place, pair in enumerate(trials):
            for side, number in zip("AB", pair, strict=True):
                names.append(f"{place + 1:03d}{side}{_SIDE_BY_SIDE}.mp4")
                shutil.copyfile(given / "films" / f"{number}.mp4", folder / names[-1])
        (folder / "playlist.m3u8").write_text("\n".join(["#EXTM3U", *names]) + "\n")
    shutil.rmtree(given / "films")


def _trial(numbers: list[str], films: _Films, kind: Kind, seed: int) -> dict[str, Any]:
    """The facts that the page needs of films that are compared."""
    clip, _ = films[numbers[0]]
    if kind == "headset":
        return {"films": numbers}
    mask = _number(seed, "mask", clip.name) if clip.mask else None
    reference = {"left": _number(seed, "left", clip.name), "mask": mask}
    height, width = clip.left.size
    facts = {"rate": float(clip.rate), "frames": clip.left.num_frames, "width": width, "height": height}
    return {"films": numbers} | reference | facts
