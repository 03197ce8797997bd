"""Merging answers, and a sentence for each bad file."""

import csv
import json
from pathlib import Path

import pytest

from m2svid.errors import UserError
from m2svid.study.collect import collect
from m2svid.study.report import report
from tests.study.made_answers import answer_file, made_key

METHODS = ("good", "fair", "bad")
GOOD, TIED = {"good": 1, "fair": 2, "bad": 3}, {"good": 1, "fair": 1, "bad": 3}


@pytest.fixture
def study(tmp_path):
    return made_key(tmp_path / "key.json", "desktop", METHODS, {"1": ["v1", "v2"], "2": ["v3"]})


@pytest.fixture
def merge(study, tmp_path, caplog):
    """Collect files of `tmp_path`; what is merged, and the sentences about the others."""

    def run(*names):
        output = tmp_path / "out" / "answers.json"
        words = [str(tmp_path / name) for name in names]
        found = collect(words, key=tmp_path / "key.json", output=output)
        assert [record.message.removeprefix("left out: ") for record in caplog.records] == found["left_out"]
        return json.loads(output.read_text()), found["left_out"]

    return run


def test_answers_get_the_methods_names(study, merge, tmp_path):
    (tmp_path / "sent").mkdir()
    answer_file(tmp_path / "sent" / "a.json", study, "1", "Anna", [GOOD, TIED])
    answer_file(tmp_path / "sent" / "b.json", study, "2", "anna", [{"good": 3, "fair": 1, "bad": 2}])
    merged, left_out = merge("sent")
    assert left_out == []
    assert [ranking["ranks"] for ranking in merged["rankings"]] == [[1, 2, 3], [1, 1, 3], [3, 1, 2]]
    assert {tuple(ranking["shown"]) for ranking in merged["rankings"]} == {METHODS}
    assert merged["files"][0]["remarks"] == 'schön "flach"\n'
    rows = list(csv.DictReader((tmp_path / "out" / "answers.csv").open()))
    assert len(rows) == 9
    assert rows[4] == {"participant": "Anna", "part": "1", "video": "v2"} | {
        "method": "fair", "rank": "1", "place": "2",
    }  # fmt: skip


def test_the_order_shown_is_kept(study, merge, tmp_path):
    films = [list(reversed(trial)) for trial in study["parts"]["2"]]
    answers = [{"films": films[0], "ranks": [3, 2, 1]}]
    answer_file(tmp_path / "a.json", study, "2", "Ben", [GOOD], answers=answers)
    (ranking,) = merge("a.json")[0]["rankings"]
    assert dict(zip(ranking["shown"], ranking["ranks"], strict=True)) == GOOD
    assert ranking["shown"] == ["bad", "fair", "good"]


def test_each_bad_file_has_its_sentence_and_the_good_ones_are_merged(study, merge, tmp_path):
    answer_file(tmp_path / "good.json", study, "1", "Anna", [GOOD, GOOD])
    (tmp_path / "noise.json").write_bytes(b"\xff\x00")
    (tmp_path / "other.json").write_text("[]")
    answer_file(tmp_path / "foreign.json", study, "1", "Ben", [GOOD, GOOD], study="another")
    edited = answer_file(tmp_path / "edited.json", study, "1", "Cleo", [GOOD, TIED])
    edited.write_text(edited.read_text().replace("Cleo", "Theo"))
    answer_file(tmp_path / "short.json", study, "1", "Dora", [GOOD, GOOD], answers=[])
    answer_file(tmp_path / "part.json", study, "2", "Emil", [GOOD], part="7")
    answer_file(tmp_path / "rank.json", study, "2", "Finn", [GOOD | {"bad": 4}])
    answer_file(tmp_path / "word.json", study, "2", "Gina", [GOOD | {"bad": None}])
    swapped = [{"films": study["parts"]["1"][0], "ranks": [1, 2, 3]}]
    answer_file(tmp_path / "films.json", study, "2", "Hans", [GOOD], answers=swapped)
    answer_file(tmp_path / "nobody.json", study, "2", "", [GOOD])
    names = ["noise", "other", "foreign", "edited", "short", "part", "rank", "word", "films", "nobody"]
    merged, left_out = merge("good.json", *(f"{name}.json" for name in names))
    assert {ranking["participant"] for ranking in merged["rankings"]} == {"Anna"}
    expected = [
        "holds no answers: give files that the study's page handed out",
        "holds no answers: give files that the study's page handed out",
        "belongs to another study, another and not the desktop one",
        "was changed after the page handed it out: ask for the original file",
        "isn't complete: it has 0 of 2 answers",
        "answers part 7, and the study has 1, 2",
        ": a rank in answer 1 is 4, not 1 to 3",
        ": a rank in answer 1 is None, not 1 to 3",
        "isn't complete: answer 1 isn't about the films of the study",
        "holds no answers: give files that the study's page handed out",
    ]
    for name, sentence, text in zip(names, left_out, expected, strict=True):
        assert sentence.startswith(str(tmp_path / f"{name}.json")), sentence
        assert sentence.endswith(text), sentence
    assert merged["left_out"] == left_out


def test_a_repeated_file_counts_once(study, merge, tmp_path):
    answer_file(tmp_path / "a.json", study, "2", "Anna", [GOOD])
    answer_file(tmp_path / "b.json", study, "2", "ANNA", [GOOD], finished="2026-01-02T04:00:00.000Z")
    merged, left_out = merge("a.json", "b.json", "a.json")
    assert len(merged["rankings"]) == 1
    assert left_out == [f"{tmp_path / 'b.json'} repeats {tmp_path / 'a.json'}"]


def test_two_different_answers_of_one_person_are_both_left_out(study, merge, tmp_path):
    answer_file(tmp_path / "a.json", study, "2", "Anna", [GOOD])
    answer_file(tmp_path / "b.json", study, "2", "Anna", [TIED])
    answer_file(tmp_path / "c.json", study, "1", "Anna", [GOOD, GOOD])
    merged, left_out = merge("a.json", "b.json", "c.json")
    assert {ranking["part"] for ranking in merged["rankings"]} == {"1"}
    assert [sentence.split(" are ")[1] for sentence in left_out] == [
        "different answers of Anna about the same films: give only the one that counts"
    ] * 2


def test_two_lists_of_a_headset_are_about_the_same_films(tmp_path):
    key = made_key(tmp_path / "key.json", "headset", ("x", "y"), {"1": ["v"], "2": ["v"]})
    for part in "12":
        answer_file(tmp_path / f"{part}.json", key, part, "Anna", [{"x": 1, "y": 2}])
    with pytest.raises(
        UserError, match=r"no file of answers can be used: .*1.json and .*2.json are different"
    ):
        collect([str(tmp_path / f"{part}.json") for part in "12"], tmp_path / "key.json", tmp_path / "o.json")
    assert not (tmp_path / "o.json").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"answers": ["nowhere"]}, "nowhere does not exist: give files of answers"),
        ({"answers": ["empty"]}, "no file of answers can be used: there is none"),
        ({"key": "nowhere"}, "nowhere does not exist: name the key.json"),
        ({"key": "a.json"}, "a.json is no key of a study"),
    ],
    ids=str,
)
def test_mistakes_are_refused(study, given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    answer_file(tmp_path / "a.json", study, "2", "Anna", [GOOD])
    options = {"answers": ["a.json"], "key": "key.json"} | given
    with pytest.raises(UserError, match=message):
        collect(options["answers"], key=Path(options["key"]))


def test_answers_and_key_are_not_written_over(study, tmp_path):
    sent = answer_file(tmp_path / "sent.json", study, "2", "p", [GOOD])
    seen = {path: path.read_bytes() for path in (sent, tmp_path / "key.json")}
    for output in seen:
        with pytest.raises(UserError, match="never written over"):
            collect([str(sent)], tmp_path / "key.json", output)
    merged = tmp_path / "study.json"
    collect([str(sent)], tmp_path / "key.json", merged)
    with pytest.raises(UserError, match="never written over"):
        report([str(merged)], tmp_path)
    assert {path: path.read_bytes() for path in seen} == seen
