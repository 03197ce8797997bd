"""The verbs on films: `convert`, and its stages `depth`, `warp` and `refine` with files between them.

With a model `convert` gives the same views without these files; they are for looking at a stage, or for
changing what it gives. Without one, `convert` warps for the eye, where `warp` does so for a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from m2svid.convert.films import find_films, made_folder, output_name, output_names, output_path, result_files
from m2svid.convert.makers import DepthMaker, WarpMaker
from m2svid.convert.options import DepthOptions, WarpOptions
from m2svid.convert.presets import describe
from m2svid.convert.report import Event, Reporter
from m2svid.convert.runner import Runner
from m2svid.convert.setup import Models, encoding_of, named_files, open_film, stereo_encoding
from m2svid.convert.stereo_makers import FromDepth, FromWarped
from m2svid.convert.stereo_options import Options, StereoOptions
from m2svid.convert.task import Target, Task
from m2svid.convert.work_folder import work_path
from m2svid.errors import UserError
from m2svid.files import check_output
from m2svid.video.layouts import LAYOUTS
from m2svid.video.pictures import Composer
from m2svid.video.planes import PixelFormat
from m2svid.video.read import IMAGE_SUFFIXES, Video
from m2svid.video.streams import Choice
from m2svid.video.write import inverse_depth, lossless
from m2svid.weights.fetch import is_path


def convert(input: list[str] | str, output: Path | None = None, **options: Any) -> None:
    """Convert films into stereo films.

    Of several films, those that are done are skipped, and so are files whose names say that they were made of
    another film there; a film that fails does not stop the others.

    Args:
        input: films, pictures, folders of films, folders of pictures (each one film), or globs.
        output: the stereo film, or a folder, which is made if need be; if not given, the stereo film lies
            beside the input, with a name by which players recognise it.
        **options: see `Options`.

    Raises:
        UserError: a mistake; with several films, after all others were converted.
    """
    chosen = Options(**options)  # with the defaults of a preset, see `cli.call`
    given = [input] if isinstance(input, str | Path) else input
    convert_films(list(map(Path, given)), output, chosen, Reporter(chosen.progress))


def convert_films(
    given: list[Path], output: Path | None, chosen: Options, report: Reporter
) -> dict[Path, Path]:
    """Convert films as `convert` does, and name the stereo film of each."""
    films, made = find_films(given)
    for file in made:
        text = f"{file} was made of a film beside it: skipped; name it alone to convert it"
        report.say(Event("skipped", text, {"file": str(file)}))
    for line in describe(chosen.preset, chosen):
        report.say(Event("preset", line))
    models = Models(chosen)
    failed: list[Path] = []

    @contextmanager
    def others_go_on(film: Path) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            if len(films) == 1:
                raise
            failed.append(film)
            text = str(error) if str(film) in str(error) else f"{film}: {error}"
            report.say(Event("failed", text, {"file": str(film)}))

    tasks: dict[Path, Task] = {}
    alone = films == given and len(films) == 1
    names = output_names(films, output, chosen, alone)
    for film, name in names.items():
        with others_go_on(film):
            if not alone and _is_done(name, chosen):
                report.say(Event("skipped", f"{name} exists: skipped", {"file": str(name)}))
                continue
            inputs = {"input": film, **named_files(chosen)}
            tasks[film] = _stereo_task(open_film(film, chosen), inputs, name, chosen, films)
    for film, task in tasks.items():
        with others_go_on(film):
            _convert(task, chosen, models, report)
    if failed:
        raise UserError(f"{len(failed)} of {len(films)} films failed: {', '.join(map(str, failed))}")
    return names


def _is_done(output: Path, options: Options) -> bool:
    files = list(result_files(output, options).values())
    for path in files:
        check_output(path, ())  # else its name may be one that can't be asked for
    return not options.restart and all(path.exists() for path in files) and not work_path(files[0]).exists()


def _convert(task: Task, options: Options, models: Models, report: Reporter) -> None:
    depths = models.depths(options, options.depth_range)
    makers = [
        FromDepth(depth, options, task.video, *stereo_encoding(task.video, options), inpainter)
        for depth, inpainter in zip(depths, models.inpainters(options, depths, report.say), strict=True)
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
    video, right = open_film(input, chosen), LAYOUTS["right"]
    output = output_path(output, input.with_name(f"{input.stem}_depth.mkv"))
    inputs, settings = {"input": input, **named_files(chosen)}, chosen.settings() | {"preview": preview}

    def targets(width: int, height: int) -> dict[str, Target]:
        gray = inverse_depth(width, height, video.info.rate, video.info.aspect)
        colors = encoding_of(video, right, size=(width, height))
        seen = {"preview": Target(output.with_name(f"{output.stem}_preview.mp4"), colors, right)}
        return {"depth": Target(output, gray, right)} | (seen if preview else {})

    made = targets(video.info.width, video.info.height)
    task = Task(video, inputs, made, settings, chosen.cuts, chosen.restart, streams=None)
    task.check()  # before models are opened, of which one may say how large the maps are
    depths = Models(chosen).depths(chosen, "shot")
    height, width = depths[0].size or depths[0]([next(video.frames()).rgb()], 0).shape[1:]
    task, composer = replace(task, targets=targets(width, height)), None
    gray = task.targets["depth"].encoding
    if preview:
        colors = task.targets["preview"].encoding
        composer = Composer(right, colors.pixel_format, replace(video.info, color=colors.color), "dubois")
    Runner(task, [DepthMaker(each, gray, composer) for each in depths], Reporter(chosen.progress)).run()


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
    video, right = open_film(input, chosen), LAYOUTS["right"]
    info, largest = video.info, chosen.disparity_px(video.info.width)
    folder = made_folder(output or input.with_name(f"{input.stem}_warp"))
    stored = PixelFormat("444", 10)  # holds 8 bits of RGB without loss
    size = (info.width, info.height, info.rate, info.aspect)
    color, gray = lossless(stored, *size, info.color), lossless(PixelFormat("400", 8), *size)
    targets = {
        "warped": Target(folder / "warped.mkv", color, right),
        "hole": Target(folder / "hole.mkv", gray, right),
    }
    inputs = {"input": input, **named_files(chosen)}
    task = Task(video, inputs, targets, chosen.settings(), chosen.cuts, chosen.restart, streams=None)
    task.check()
    depths = Models(chosen).depths(chosen, chosen.depth_range)
    makers = [WarpMaker(info, each, largest, stored, chosen.clean_edges or 0) for each in depths]
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
    video, output = open_film(input, chosen), output_name(input, output, chosen)
    inputs = {"input": input, "warped": warped, "hole": hole, **named_files(chosen)}
    task = _stereo_task(video, inputs, output, chosen)
    encoding, composer = stereo_encoding(video, chosen)
    report = Reporter(chosen.progress)
    makers = [
        FromWarped(Video(warped), Video(hole), video, chosen, encoding, composer, inpainter)
        for inpainter in Models(chosen).inpainters(chosen, tell=report.say)
    ]
    Runner(task, makers, report).run()


def _stereo_task(
    video: Video, inputs: dict[str, Path], output: Path, options: StereoOptions, films: Sequence[Path] = ()
) -> Task:
    """The task of a stereo film, which is none of `films` that are still to be converted."""
    if (output.suffix.lower() in IMAGE_SUFFIXES) != video.is_picture:
        wanted = "a picture such as .png" if video.is_picture else "a film such as .mp4"
        raise UserError(f"-o {output} must be {wanted}, like the input")
    files = result_files(output, options)
    encoding, _ = stereo_encoding(video, options)
    options.placement(video.info.width, spread=(0.0, 1.0))  # checks the disparity
    if options.needs_model and is_path(options.weights) and not Path(options.weights).exists():
        raise UserError(
            f"--weights {options.weights} does not exist: name a folder that `python -m m2svid weights "
            "import` made, or give --refine none"
        )
    for path in files.values():
        check_output(path, films)
    targets = {name: Target(path, encoding, LAYOUTS[options.layout]) for name, path in files.items()}
    streams = Choice(options.drop_streams, options.convert_streams)
    task = Task(video, inputs, targets, options.settings(), options.cuts, options.restart, streams)
    task.check()
    return task
