"""The verbs of `python -m m2svid`."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console
from rich.logging import RichHandler

from m2svid.errors import UserError


@dataclass(frozen=True)
class Verb:
    """A verb is a function: its signature and docstring are the options and their help."""

    help: str
    function: str  # module:function, imported when the verb is used
    sections: str | None = None  # module:function that says under which heading --help has each option
    defaults: str | None = None  # module:function that says what the words make the default of options


FilmVerb = partial(Verb, sections="m2svid.convert.stereo_options:sections")
PresetVerb = partial(FilmVerb, defaults="m2svid.convert.presets:defaults")

TRAINER_VERBS = {
    "fit": "train a model",
    "validate": "measure a model on the validation sets",
    "test": "measure a model on the test sets",
    "predict": "write the right views that a model makes of the predict sets",
}

VERBS: dict[str, Verb | dict[str, Verb]] = {
    "make-shards": Verb("make shards of the procedural stereo world", "m2svid.synthetic.world:make_shards"),
    "make-film": Verb("make a film of it, with depth, to be converted", "m2svid.synthetic.film:make_film"),
    "sheet": {
        "shards": Verb("contact sheet of the clips in shards", "m2svid.sheets.draw:sheet"),
        "film": Verb("contact sheet of a converted film", "m2svid.sheets.film:sheet"),
    },
    "table": Verb("train, measure and show the rows of a table of the paper", "m2svid.training.tables:table"),
    "measure": Verb("measure films that anybody made against the truth", "m2svid.evaluation.measure:measure"),
    "report": Verb("compare methods by results", "m2svid.report.make:report"),
    "study": {
        "make": Verb("pages and films with which people compare methods", "m2svid.study.make:make"),
        "collect": Verb("check and merge the answers that they sent back", "m2svid.study.collect:collect"),
        "report": Verb("tables of a study with intervals and tests", "m2svid.study.report:report"),
    },
    "convert": PresetVerb("turn films into stereo films", "m2svid.convert.verbs:convert"),
    "preview": PresetVerb("show a moment of what convert would make", "m2svid.convert.preview:preview"),
    "depth": FilmVerb("first stage of convert: depth of a film", "m2svid.convert.verbs:depth"),
    "warp": FilmVerb("second stage: warped right view and holes", "m2svid.convert.verbs:warp"),
    "refine": FilmVerb("third stage: fill and repair the warped view", "m2svid.convert.verbs:refine"),
    "comfort": Verb("parallax of a film against limits of comfort", "m2svid.convert.comfort:comfort"),
    "ui": Verb("convert films and look at runs in a browser", "m2svid.ui.verb:ui"),
    "weights": {
        "import": Verb("published weights to a folder", "m2svid.weights.verbs:import_"),
        "export": Verb("a folder to the published layout", "m2svid.weights.verbs:export"),
        "inspect": Verb("what a file or folder holds and is good for", "m2svid.weights.verbs:inspect"),
        "init": Verb("the start of training from Stable Video Diffusion", "m2svid.weights.verbs:init"),
    },
    "bench": {
        "gpu": Verb("everything about a GPU, at full size", "m2svid.bench.gpu.run:run"),
        "merge": Verb("the report of `bench gpu` in BENCHMARKS.md", "m2svid.bench.gpu.tables:merge"),
        "warp": Verb("warp and mask closing, ms a frame", "m2svid.bench.warp:run"),
        "fill": Verb("views made without a model against true ones", "m2svid.bench.fill:run"),
        "loader": Verb("samples/s of the training loader", "m2svid.bench.loader:run"),
        "step": Verb("time of a training step with each of its options", "m2svid.bench.step:run"),
        "attention": Verb("disoccluded against factorized attention", "m2svid.bench.attention:run"),
        "weights": Verb("time and memory of import, forward and export", "m2svid.bench.weights:run"),
        "convert": Verb("frames/s of the stages of convert", "m2svid.bench.convert:run"),
        "prepare": Verb("frames/s of preparing Stereo4D by stage, and scaling", "data_prep.bench:run"),
        "methods": Verb("cost of the methods of Tables 2 and 9", "m2svid.bench.methods:run"),
        "depth": Verb("unsteadiness of depth over time, in % of its range", "m2svid.bench.depth:run"),
        "seam": Verb("change at window borders over change inside", "m2svid.bench.seam:run"),
    },
}


def main(args: Sequence[str] | None = None) -> None:
    """Run one verb; a user's mistake ends in one sentence and exit status 2, an interruption in 130."""
    words = list(sys.argv[1:] if args is None else args)
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", datefmt="[%X]", handlers=[handler])
    for name in ("m2svid", "lightning"):
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        run(words)
    except KeyboardInterrupt:
        Console(stderr=True).print("m2svid: interrupted")
        sys.exit(130)  # as shells have it
    except Exception as error:
        mistake = user_error(error)
        if mistake is None:
            raise
        Console(stderr=True).print(
            f"m2svid: {sentence(mistake)}", markup=False, highlight=False, soft_wrap=True
        )
        sys.exit(2)


def user_error(error: BaseException | None) -> UserError | None:
    """The user's mistake that an error stems from; jsonargparse wraps those of constructors in its own."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def sentence(error: UserError) -> str:
    """The error's sentence, without the traceback that torch puts around errors of loader processes."""
    text = str(error).strip()
    return text.rpartition(f"{type(error).__name__}: ")[2] if text.startswith("Caught ") else text


def run(words: list[str]) -> None:
    """Find the verb, run it, and write what it returns as JSON."""
    if words and words[0] in TRAINER_VERBS:
        from m2svid.training.cli import TrainerCLI  # takes seconds to import

        TrainerCLI(words)
        return
    chosen: Verb | Mapping[str, Verb] = VERBS
    path = ["python -m m2svid"]
    while isinstance(chosen, Mapping):
        if not words or words[0] in ("-h", "--help"):
            Console().print(overview(path, chosen), markup=False, highlight=False, soft_wrap=True)
            return
        if words[0] not in chosen:
            names = [*(TRAINER_VERBS if chosen is VERBS else ()), *chosen]
            raise UserError(f"{' '.join(path)} knows {', '.join(names)}, not {words[0]!r}")
        path.append(words[0])
        chosen = chosen[words.pop(0)]
    result = call(chosen, words, " ".join(path))
    if result is not None:
        sys.stdout.write(json.dumps(result, indent=2, default=str) + "\n")


def overview(path: list[str], verbs: Mapping[str, Verb | Mapping[str, Verb]]) -> str:
    """The text of --help for verbs that have not been chosen yet."""
    helps = dict(TRAINER_VERBS) if verbs is VERBS else {}
    for name, verb in verbs.items():
        helps[name] = verb.help if isinstance(verb, Verb) else f"one of: {', '.join(verb)}"
    lines = [f"  {name:<12} {text}" for name, text in helps.items()]
    here = " ".join(path)
    return "\n".join([f"usage: {here} VERB [options]", "", *lines, "", f"Explained by {here} VERB --help"])


def call(verb: Verb, words: list[str], prog: str) -> Any:
    """Call a verb's function with options read off its signature; required ones are positional."""
    from jsonargparse import auto_cli

    from m2svid.parser import Parser  # takes long to import

    sections = load(verb.sections)() if verb.sections else None
    defaults = load(verb.defaults)(words) if verb.defaults else None
    given: dict[str, Any] = {"args": words, "prog": prog, "set_defaults": defaults}
    return auto_cli(load(verb.function), parser_class=Parser, sections=sections, **given)


def load(name: str) -> Callable[..., Any]:
    """The function of a name as module:function."""
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)
