"""The verbs on films: `convert`, and its stages `depth`, `warp` and `refine` with files between them.

`convert` gives the same views without these files; they are for looking at a stage, or for changing what it
gives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from m2svid.convert.films import find_films, output_name, output_names, result_files
from m2svid.convert.makers import DepthMaker, FromDepth, FromWarped, WarpMaker
from m2svid.convert.options import DepthOptions, Options, StereoOptions, WarpOptions
from m2svid.convert.report import Event, Reporter
from m2svid.convert.runner import Runner, Target, Task
from m2svid.convert.setup import Models, encoding_of, stamped, stereo_encoding
from m2svid.convert.work_folder import work_path
from m2svid.errors import UserError
from m2svid.video.layouts import LAYOUTS
from m2svid.video.pictures import Composer
from m2svid.video.planes import PixelFormat
from m2svid.video.read import IMAGE_SUFFIXES, Video
from m2svid.video.write import Encoding, lossless


def convert(input: str, output: Path | None = None, **options: Any) -> None:
    """Convert films into stereo films.

    Of a folder or glob, films that are done are skipped, and so are files whose names say that they were made
    of another film there; a film that fails does not stop the others.

    Args:
        input: a film, a picture, a folder of films, a folder of pictures (one film), or a quoted glob.
        output: the stereo film, or a folder for several; if not given, it lies beside the input, with a name
            by which players recognise it.
        **options: see `Options`.

    Raises:
        UserError: a mistake; with several inputs, after all others were converted.
    """
    chosen = Options(**options)
    report = Reporter(chosen.progress)
    films, made = find_films(input)
    for file in made:
        text = f"{file} was made of a film beside it: skipped; name it alone to convert it"
        report.say(Event("skipped", text, {"file": str(file)}))
    models = Models(chosen)
    failed = []
    for film, name in output_names(films, output, chosen).items():
        try:
            _convert(film, name, chosen, models, report, skip_done=films != [Path(input)])
        except UserError as error:
            if len(films) == 1:
                raise
            failed.append(film)
            report.say(Event("failed", f"{film}: {error}", {"file": str(film)}))
    if failed:
        raise UserError(f"{len(failed)} of {len(films)} films failed: {', '.join(map(str, failed))}")


def _convert(
    film: Path, output: Path, options: Options, models: Models, report: Reporter, skip_done: bool
) -> None:
    files = result_files(output, options)
    begun = work_path(next(iter(files.values()))).exists()
    if skip_done and not options.restart and not begun and all(path.exists() for path in files.values()):
        report.say(Event("skipped", f"{output} exists: skipped", {"file": str(output)}))
        return
    video = Video(film, options.rate)
    encoding, composer = stereo_encoding(video, options)
    task = _stereo_task(video, output, options, encoding, stamped(options, input=film))
    depths = models.depths(options, options.depth_range)
    makers = [
        FromDepth(depth, options, video, encoding, composer, inpainter)
        for depth, inpainter in zip(depths, models.inpainters(options, depths), strict=True)
    ]
    Runner(task, makers, report).run()


def depth(input: Path, output: Path | None = None, preview: bool = False, **options: Any) -> None:
    """Write the depth of a film as a 16-bit gray video, which `--depth` of the other verbs takes.

    Args:
        input: the film.
        output: lossless video (.mkv), inverse depth: white is near; every shot normalised. If not given, the
            film's name with `_depth`.
        preview: also write a film in colours to look at, the output's name with `_preview.mp4`: red is near.
        **options: see `DepthOptions`; `depth` may be a file, too, which is then normalised.

    Raises:
        UserError: a mistake.
    """
    chosen = DepthOptions(**options)
    video, right = Video(input, chosen.rate), LAYOUTS["right"]
    output = output or input.with_name(f"{input.stem}_depth.mkv")
    depths = Models(chosen).depths(chosen, "shot")
    height, width = depths[0].size or depths[0]([next(video.frames()).rgb()], 0).shape[1:]
    gray = lossless(PixelFormat("400", 16), width, height, video.info.rate, video.info.aspect)
    targets, composer = {"depth": Target(output, gray, right)}, None
    if preview:
        encoding = encoding_of(video, right, size=(width, height))
        targets["preview"] = Target(output.with_name(f"{output.stem}_preview.mp4"), encoding, right)
        composer = Composer(right, encoding.pixel_format, video.info, "dubois")
    settings = stamped(chosen, input=input) | {"preview": preview}
    task = Task(video, targets, settings, chosen.cuts, chosen.restart, copy_streams=False)
    task.check()
    Runner(task, [DepthMaker(each, composer) for each in depths], Reporter(chosen.progress)).run()


def warp(input: Path, output: Path | None = None, **options: Any) -> None:
    """Warp a film to the right eye: `warped.mkv` and `hole.mkv` (white = hole, closed), both lossless.

    Args:
        input: the film.
        output: folder for both; if not given, the film's name with `_warp`.
        **options: see `WarpOptions`.

    Raises:
        UserError: a mistake.
    """
    chosen = WarpOptions(**options)
    video, right = Video(input, chosen.rate), LAYOUTS["right"]
    info, largest = video.info, chosen.disparity_px(video.info.width)
    folder = output or input.with_name(f"{input.stem}_warp")
    folder.mkdir(parents=True, exist_ok=True)
    stored = PixelFormat("444", 10)  # holds 8 bits of RGB without loss
    size = (info.width, info.height, info.rate, info.aspect)
    color, gray = lossless(stored, *size, info.color), lossless(PixelFormat("400", 8), *size)
    targets = {
        "warped": Target(folder / "warped.mkv", color, right),
        "hole": Target(folder / "hole.mkv", gray, right),
    }
    settings = stamped(chosen, input=input)
    task = Task(video, targets, settings, chosen.cuts, chosen.restart, copy_streams=False)
    task.check()
    depths = Models(chosen).depths(chosen, chosen.depth_range)
    makers = [WarpMaker(info, each, largest, stored) for each in depths]
    Runner(task, makers, Reporter(chosen.progress)).run()


def refine(input: Path, warped: Path, hole: Path, output: Path | None = None, **options: Any) -> None:
    """Repair a warped view and fill its holes: the last stage of `convert`.

    Args:
        input: the film, left view.
        warped: view warped to the right eye, black in holes, as `warp` writes it.
        hole: its holes, white.
        output: the stereo film; if not given, it is named as by `convert`.
        **options: see `StereoOptions`.

    Raises:
        UserError: a mistake.
    """
    chosen = StereoOptions(**options)
    video, output = Video(input, chosen.rate), output_name(input, output, chosen)
    encoding, composer = stereo_encoding(video, chosen)
    settings = stamped(chosen, input=input, warped=warped, hole=hole)
    task = _stereo_task(video, output, chosen, encoding, settings)
    makers = [
        FromWarped(Video(warped), Video(hole), video, chosen, encoding, composer, inpainter)
        for inpainter in Models(chosen).inpainters(chosen)
    ]
    Runner(task, makers, Reporter(chosen.progress)).run()


def _stereo_task(
    video: Video, output: Path, options: StereoOptions, encoding: Encoding | None, settings: dict[str, Any]
) -> Task:
    if (output.suffix.lower() in IMAGE_SUFFIXES) != video.is_picture:
        wanted = "a picture such as .png" if video.is_picture else "a film such as .mp4"
        raise UserError(f"-o {output} must be {wanted}, like the input")
    files = result_files(output, options)
    targets = {name: Target(path, encoding, LAYOUTS[options.layout]) for name, path in files.items()}
    task = Task(video, targets, settings, options.cuts, options.restart, copy_streams=True)
    task.check()
    return task
