"""Words as people type them, and the sections of --help."""

import re
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from jsonargparse import auto_cli

from m2svid import cli
from m2svid.convert.stereo_options import MOST_USED, Options, sections
from m2svid.errors import UserError
from m2svid.parser import Parser


@dataclass
class Given:
    """What a verb was given."""

    inputs: list[str]
    output: Path | None = None
    twice: bool = False
    cuts: bool = True
    max_shift: float = 1.0


def several(inputs: list[str], output: Path | None = None, **options: float) -> Given:
    return Given(inputs, output, **options)


def one(inputs: str, output: Path | None = None, **options: float) -> Given:
    return Given(inputs, output, **options)


def parse(function, *words):
    def verb(
        inputs,
        output: Path | None = None,
        twice: bool = False,
        cuts: bool = True,
        max_shift: float = 1.0,
    ):
        return function(inputs, output, twice=twice, cuts=cuts, max_shift=max_shift)

    verb.__annotations__["inputs"] = {several: list[str], one: str}[function]
    return auto_cli(verb, args=list(words), parser_class=Parser)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("measure", "a", "b", "--clip-frames", "few"),
            "--clip-frames must be a whole number or null, not few",
        ),
        (("measure", "a", "b", "--truth-is", "so"), "--truth-is must be one of true, warped, not so"),
        (("measure", "a", "b", "--metrics", "5"), "--metrics must be a list, not 5"),
        (
            ("measure", "a", "b", "--metrics", "[fid]"),
            r"--metrics must be one of psnr, .*, lpips_alex, not fid",
        ),
        (("convert", "a", "--max-disparity", "x"), "--max-disparity must be auto or a number, not x"),
        (("convert", "--crf", "3"), "input must be given: python -m m2svid convert --help explains .*"),
        (("bench", "fill", "a", "b"), "there is no place for b: python -m m2svid bench fill --help .*"),
        (("convert", "a", "--config", "none.yaml"), "--config: File does not exist: '.*none.yaml'"),
    ],
    ids=lambda given: " ".join(given[-2:]) if isinstance(given, tuple) else "",
)
def test_a_wrong_value_is_told_in_one_sentence(words, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        cli.run(list(words))


@pytest.mark.parametrize(
    "words",
    [
        ("a", "b", "-o", "x", "--twice"),
        ("--twice", "-o", "x", "a", "b"),
        ("a", "--twice", "-o=x", "b"),
        ("--twice", "a", "--output", "x", "b"),
        ("--twice", "true", "a", "b", "--output=x"),
        ("-o", "x", "--twice", "--", "a", "b"),
    ],
    ids=" ".join,
)
def test_inputs_and_options_may_come_in_any_order(words):
    assert parse(several, *words) == Given(["a", "b"], Path("x"), True)


def test_names_that_begin_with_a_dash():
    assert parse(one, "--twice", "--", "--a.mp4") == Given("--a.mp4", None, True)
    assert parse(one, "-a.mp4", "-o", "-x.mp4") == Given("-a.mp4", Path("-x.mp4"))
    assert parse(several, "-o=--x.mp4", "--", "-o", "b") == Given(["-o", "b"], Path("--x.mp4"))


def test_hyphens_underscores_negative_numbers_and_switches_set_to_false():
    for name in ("--max-shift", "--max_shift"):
        assert parse(one, "a", name, "-2.5", "--cuts", "false") == Given("a", None, False, False, -2.5)


def test_an_option_without_its_value_is_refused():
    with pytest.raises(UserError, match=r"^(-o/)?--output needs a value: .* --help explains it$"):
        parse(one, "a", "-o", "--twice")


def test_an_unknown_option_is_refused_with_the_likely_one():
    with pytest.raises(UserError, match=r"there is no option --max-shft: did you mean --max-shift\?"):
        parse(one, "a", "--max-shft", "1")


def headings(text):
    """Heading -> the options under it, as --help shows them."""
    found = {}
    for line in text.splitlines():
        if title := re.fullmatch(r"([a-z ]+):", line):
            names = found.setdefault(title[1], [])
        elif option := re.match(r"  (?:-\w(?: \w+)?, )?--([\w-]+)", line):
            names.append(option[1].replace("-", "_"))
    return found


def test_help_explains_the_most_used_options_and_says_what_shows_all(capsys):
    shown = {}
    for words in (["--help"], ["-h"], ["--help", "all"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["convert", *words])
        assert stopped.value.code == 0
        shown[" ".join(words)] = capsys.readouterr().out
    brief, everything = headings(shown["--help"]), headings(shown["--help all"])
    assert shown["-h"] == shown["--help"]
    assert list(brief) == ["positional arguments", "most used", "options"]
    assert sorted(brief["most used"]) == sorted([*MOST_USED, "output"])
    assert shown["--help"].split()[-6:] == ["python", "-m", "m2svid", "convert", "--help", "all"]
    count = re.search(r"^(\d+) more options", shown["--help"], re.MULTILINE)
    sectioned = [
        name for title, names in everything.items() if title in set(sections().values()) for name in names
    ]
    assert int(count[1]) == len(sectioned)
    assert sorted([*sectioned, *MOST_USED]) == sorted(field.name for field in fields(Options))
    assert everything["encoding"][:2] == ["codec", "crf"]


def test_every_verb_on_films_has_sections_and_knows_its_options(capsys):
    for verb in ("depth", "warp", "refine"):
        with pytest.raises(SystemExit):
            cli.main([verb, "--help", "all"])
        shown = headings(capsys.readouterr().out)
        assert {"film", "running"} < set(shown)
        assert ("encoding" in shown) == (verb == "refine")
