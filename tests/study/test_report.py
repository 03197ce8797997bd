"""The paper's counts out of made-up answers that have them, and numbers by hand."""

import json
import re

import pytest

from m2svid.errors import UserError
from m2svid.study.collect import collect
from m2svid.study.report import report
from tests.study.made_answers import answer_file, made_key

METHODS = ("svg", "stereocrafter_25", "stereocrafter_1", "m2svid")
# 112 rankings: best 16, 29, 4 and 76 times; where ties share the best place, sums of 323, 230, 387, 160.
RANKINGS = {(1, 3, 2, 4): 1, (1, 4, 3, 2): 15, (2, 1, 2, 4): 3, (2, 3, 1, 3): 4, (3, 2, 4, 1): 63}
RANKINGS |= {(4, 1, 3, 1): 13, (4, 1, 3, 2): 13}
VIDEOS = [f"video{number:02d}" for number in range(21)]
PEOPLE = [f"p{number:02d}" for number in range(13)]


@pytest.fixture(scope="module")
def desktop(tmp_path_factory):
    """13 people, 3 of whom take two of the three sets of 7: 16 files, as in the paper."""
    folder = tmp_path_factory.mktemp("desktop")
    sets = {str(number + 1): VIDEOS[7 * number : 7 * number + 7] for number in range(3)}
    key = made_key(folder / "key.json", "desktop", METHODS, sets)
    rows = [ranks for ranks, count in RANKINGS.items() for _ in range(count)]
    rows = [rows[(37 * index) % 112] for index in range(112)]  # spread over people and videos
    (folder / "sent").mkdir()
    for number in range(16):
        # (4, 1, 3, 1) is also given as (3, 1, 2, 1): only the order counts
        seven = [
            (3, 1, 2, 1) if row == (4, 1, 3, 1) and number % 2 else row for row in rows[7 * number :][:7]
        ]
        given = [dict(zip(METHODS, ranks, strict=True)) for ranks in seven]
        part = str(number % 3 + 1) if number < 13 else str((number - 13 + 1) % 3 + 1)
        answer_file(folder / "sent" / f"{number}.json", key, part, PEOPLE[number % 13], given)
    found = collect([str(folder / "sent")], folder / "key.json", folder / "desktop.json")
    assert (found["answers"], found["participants"], found["left_out"]) == (112, 13, [])
    return folder / "desktop.json"


@pytest.fixture(scope="module")
def headset(tmp_path_factory):
    """5 people, 21 pairs each: 9 for the first, 57 equal, 39 for the second."""
    folder = tmp_path_factory.mktemp("headset")
    key = made_key(folder / "key.json", "headset", ("stereocrafter_25", "m2svid"), {"1": VIDEOS})
    choices = [(1, 2)] * 9 + [(1, 1)] * 57 + [(2, 1)] * 39
    choices = [choices[(17 * index) % 105] for index in range(105)]
    for number in range(5):
        given = [dict(zip(key["methods"], ranks, strict=True)) for ranks in choices[21 * number :][:21]]
        answer_file(folder / f"{number}.json", key, "1", f"p{number}", given)
    files = [str(folder / f"{number}.json") for number in range(5)]
    collect(files, folder / "key.json", folder / "headset.json")
    return folder / "headset.json"


@pytest.fixture(scope="module")
def made(desktop, headset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    (folder / "latency.json").write_text('{"m2svid": 2.5, "svg": 1000}')
    report([str(desktop), str(headset)], output=folder, latency=folder / "latency.json")
    return folder


def test_table_2_as_the_paper_counts(made):
    lines = (made / "study.tex").read_text().splitlines()
    rows = [line for line in lines if "112" in line and "&" in line]
    ours, papers = rows[::2], rows[1::2]
    expected = [("2.88", "16"), ("2.05", "29"), ("3.46", "4"), ("1.43", "76")]
    for row, printed, (average, best) in zip(ours, papers, expected, strict=True):
        plain = re.sub(r"\\textbf\{(.*?)\}", r"\1", row)
        assert plain.split(" & ")[3:5] == printed.split(" & ")[3:5] == [average, f"{best} / 112"]
    assert rows[6] == r"m2svid & ours & 1 step & \textbf{1.43} & \textbf{76 / 112} & \textbf{2.5} \\"
    assert rows[7] == r"\quad M2SVid (Ours) & paper & 1 step & 1.43 & 76 / 112 & 2.1 \\"
    assert rows[2].endswith(r"& -" + r" \\")


def test_latency_of_bench_methods_and_names_of_rows(desktop, tmp_path):
    """Seconds by the paper's row, as the benchmark has them, for a method of another name."""
    content = json.loads(desktop.read_text().replace('"m2svid"', '"ours"'))
    (tmp_path / "ours.json").write_text(json.dumps(content))
    (tmp_path / "bench.json").write_text(
        '{"frames": 16, "methods": {"m2svid": {"seconds": 1.75, "tflop": 3}}}'
    )
    options = {"latency": tmp_path / "bench.json", "paper": {"ours": "m2svid"}}
    report([str(tmp_path / "ours.json")], output=tmp_path, **options)
    rows = [line for line in (tmp_path / "study.tex").read_text().splitlines() if line.startswith("ours")]
    assert rows == [r"ours & ours & 1 step & \textbf{1.43} & \textbf{76 / 112} & \textbf{1.8} \\"]
    assert "table" not in (tmp_path / "study.md").read_text()


def test_pairs_of_three_methods_in_a_headset(tmp_path):
    """a beats b in 3 of 4, c in all; b beats c in 2, and once they are equal: each list has all pairs."""
    key = made_key(tmp_path / "key.json", "headset", "abc", {"1": ["v1", "v2"], "2": ["v1", "v2"]})
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    trials = [[f"{video} {m}" for m in pair] for video in ("v1", "v2") for pair in pairs]
    key["parts"] = {"1": trials, "2": trials}
    (tmp_path / "key.json").write_text(json.dumps(key))
    choices = {
        "1": [(1, 2), (1, 2), (1, 2), (1, 2), (1, 2), (1, 1)],
        "2": [(1, 2), (1, 2), (2, 1), (2, 1), (1, 2), (1, 2)],
    }
    for part, given in choices.items():
        answers = [{"films": trial, "ranks": list(ranks)} for trial, ranks in zip(trials, given, strict=True)]
        blank = [dict.fromkeys("abc", 1)] * 6
        answer_file(tmp_path / f"{part}.json", key, part, f"p{part}", blank, answers=answers)
    collect([str(tmp_path / f"{part}.json") for part in choices], tmp_path / "key.json", tmp_path / "c.json")
    report([str(tmp_path / "c.json")], output=tmp_path / "report")
    (found,) = json.loads((tmp_path / "report" / "study.json").read_text())
    counts = {
        (p["first"], p["second"]): (p["first_better"], p["equal"], p["second_better"]) for p in found["pairs"]
    }
    assert counts == {("a", "b"): (3, 0, 1), ("a", "c"): (4, 0, 0), ("b", "c"): (2, 1, 1)}
    strengths = [found["methods"][m]["strength"]["value"] for m in "abc"]
    assert strengths == sorted(strengths, reverse=True)
    assert found["friedman"] == {"rankings": None, "participants": None}
    assert "4 / 4 & 0 / 4 & 0 / 4" in (tmp_path / "report" / "study.tex").read_text()


def test_table_3_as_the_paper_counts(made):
    lines = (made / "study.tex").read_text().splitlines()
    assert r"stereocrafter\_25 vs.\ m2svid & ours & 9 / 105 & 57 / 105 & 39 / 105 \\" in lines
    assert lines[-3].endswith(r"paper & 9 / 105 & 57 / 105 & 39 / 105 \\")


def test_numbers_beside_the_papers(made):
    two, three = json.loads((made / "study.json").read_text(), parse_constant=pytest.fail)
    ours = two["methods"]["m2svid"]
    # Ties at rank 1: (4, 1, 3, 1) 13 times; others' ties are at 2 and 3: (2, 3, 1, 3) 4 times, (2, 1, 2, 4).
    assert ours["mean_at_ties"]["value"] == pytest.approx((160 + 13 * 0.5 + 4 * 0.5) / 112)
    assert two["tied"] == pytest.approx(20 / 112)
    assert sum(values["mean_at_ties"]["value"] for values in two["methods"].values()) == pytest.approx(10)
    low, high = ours["average"]["interval"]
    assert low < ours["average"]["value"] < high
    assert (two["friedman"]["rankings"]["blocks"], two["friedman"]["participants"]["blocks"]) == (112, 13)
    pair = next(p for p in two["pairs"] if (p["first"], p["second"]) == ("stereocrafter_25", "m2svid"))
    assert (pair["first_better"], pair["equal"], pair["second_better"]) == (17, 17, 78)
    assert sum(p["first_better"] + p["equal"] + p["second_better"] for p in two["pairs"]) == 6 * 112
    assert three["friedman"]["rankings"] is None
    (pair,) = three["pairs"]
    assert pair["p"] == pair["p_holm"] == pytest.approx(1.5e-5, abs=1e-6)
    assert pair["p_participants"] == 2 / 2**5  # all five prefer the second more often
    assert three["methods"]["m2svid"]["strength"]["value"] == pytest.approx(39 / 48, abs=1e-3)
    assert three["davidson_ties"]["value"] == pytest.approx(57 / (9 * 39) ** 0.5, abs=1e-2)


def test_average_rank_by_place(made):
    """All films were shown in one order, so the places' averages are the methods'."""
    two, _ = json.loads((made / "study.json").read_text())
    assert two["by_place"] == pytest.approx([323 / 112, 230 / 112, 387 / 112, 160 / 112])


def test_markdown_and_page(made):
    text, html = (made / "study.md").read_text(), (made / "index.html").read_text()
    data = json.loads(re.search(r'type="application/json">(.*?)</script>', html, re.DOTALL)[1])
    row = next(line for line in text.splitlines() if line.startswith("| m2svid | 1.43"))
    assert re.match(r"\| m2svid \| 1\.43 \[1\.\d\d, \d\.\d\d\] \| 76 / 112 \| 0\.68 \[.*\| 2\.5 \|$", row)
    assert "112 answers of 13 participants about 21 videos" in text
    assert data["sections"][1]["counts"] == "105 answers of 5 participants about 21 videos"
    assert data["sections"][0]["tables"][0]["rows"][3][2] == "76 / 112"
    assert [len(section["tables"]) for section in data["sections"]] == [3, 2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"answers": ["nowhere.json"]},
            "nowhere.json does not exist: give the JSON that `study collect` wrote",
        ),
        ({"answers": ["latency.json"]}, "latency.json is none of `study collect`"),
        ({"paper": {"svg": "table9"}}, "'table9' of 'svg' is no row of Table 2: svg, stereocrafter_25"),
        ({"latency": "broken.json"}, "broken.json must be JSON such as"),
        ({"latency": "latency.json"}, "latency.json has none of the methods m2svid, stereocrafter_1"),
    ],
    ids=str,
)
def test_mistakes_are_refused(desktop, given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latency.json").write_text('{"other": 1}')
    (tmp_path / "broken.json").write_text("[1]")
    options = {"answers": [str(desktop)], "output": tmp_path / "report"} | given
    if "latency" in given:
        options["latency"] = tmp_path / given["latency"]
    with pytest.raises(UserError, match=message):
        report(**options)
    assert not (tmp_path / "report").exists()
