"""Reports of made-up results against numbers by hand, and in a browser."""

import json
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from m2svid.errors import UserError
from m2svid.evaluation.measure import measure
from m2svid.evaluation.results import Results, VideoResult
from m2svid.report.collect import collect, source_of
from m2svid.report.columns import compared, heading, score
from m2svid.report.make import report
from m2svid.report.tables import latex, markdown, summarize
from tests.browser import needs_browser, shown
from tests.evaluation.made_films import save_film, stereo


def results(path, method, psnr, dataset="stereo4d", means=None, **metrics):
    """A file with values of videos v0, v1, ... (or those named)."""
    columns = {"hole_share": [0.1] * len(psnr), "psnr": psnr, **metrics}
    videos = [
        VideoResult(f"v{index}", {name: values[index] for name, values in columns.items()})
        for index in range(len(psnr))
    ]
    Results(method, dataset, videos, means or {}).write(path)
    return str(path)


@pytest.fixture
def three(tmp_path):
    """Three methods on five videos."""
    values = {"a": [20.0, 21, 22, 23, 24], "b": [21.0, 22, 23, 24, 25], "c": [20.0, 20, 23, 20, 20]}
    lpips = {"a": [0.3, 0.3, 0.3, 0.3, 0.3], "b": [0.2, 0.2, 0.2, 0.4, 0.2], "c": [0.1, 0.1, 0.1, 0.1, 0.1]}
    return [results(tmp_path / f"{m}.json", m, values[m], lpips=lpips[m]) for m in values]


def test_summary_by_hand(three):
    (dataset,) = collect(three)
    summary = summarize(dataset, "a", str)
    assert summary["methods"]["b"]["psnr"]["mean"] == 23
    psnr, lpips = (summary["comparisons"][name] for name in ("psnr", "lpips"))
    assert (psnr["b"]["difference"], psnr["b"]["won"]) == (1, 1)
    assert psnr["b"]["interval"] == (
        1,
        1,
    )  # 1 dB in every video: whatever is drawn
    low, high = summary["methods"]["b"]["psnr"]["interval"]
    assert low < 22.5 < 23.5 < high
    assert (psnr["c"]["won"], psnr["c"]["tied"]) == (0.2, 0.2)
    assert lpips["b"]["won"] == 0.8  # lower is better
    assert lpips["b"]["difference"] == pytest.approx(-0.06)
    # Wilcoxon over 5 equal signs: 2 / 2^5, twice as the smaller of two tests
    assert psnr["b"]["p"] == 0.0625
    assert psnr["b"]["p_holm"] == 0.125
    assert "hole_share" not in summary["comparisons"]


def test_runs_of_one_name_are_averaged_video_by_video(tmp_path):
    files = [results(tmp_path / f"{seed}.json", "model", [20.0 + seed, 30]) for seed in (0, 2)]
    (dataset,) = collect([f"mine={file}" for file in files])
    method = dataset.methods["mine"]
    assert len(method.runs) == 2
    assert method.values["psnr"] == {"v0": 21, "v1": 30}


def test_a_table_of_several_seeds_by_hand(tmp_path):
    """Two videos of each of two sources, three seeds."""
    folder = tmp_path / "quickstart+table4"
    psnr = {"a": ([20.0, 22, 30, 32], [21.0, 23, 31, 33], [19.0, 21, 29, 31])}
    psnr["b"] = ([21.0, 23, 32, 34], [23.0, 25, 34, 36], [19.0, 21, 30, 32])
    for name, seeds in psnr.items():
        for seed, values in enumerate(seeds):
            results(folder / f"seed{seed}" / f"made_{name}.json", name, values, "made")
    (dataset,) = collect([str(folder)])
    assert dataset.methods["b"].values["psnr"] == {"v0": 21, "v1": 23, "v2": 32, "v3": 34}
    summary = summarize(dataset, "a", lambda video: "s" if video in ("v0", "v1") else "t")
    a, b = (summary["methods"][name]["psnr"] for name in "ab")
    # means of the seeds: 26, 27, 25 and 27.5, 29.5, 25.5
    assert (a["mean"], a["spread"]) == (26, 1)
    assert (b["mean"], b["spread"]) == (27.5, 2)
    assert a["interval"] == (21, 31)  # two sources: either, both or the other, 1/4 of the draws each end
    # differences of the seeds: 1.5, 2.5, 0.5; of the sources, over the mean of the seeds: 1 and 2
    found = summary["comparisons"]["psnr"]["b"]
    assert (found["difference"], found["spread"], found["interval"]) == (1.5, 1, (1, 2))
    text = markdown({"made": summary}, {"made": ["psnr"]})
    assert "4 videos of 2 sources" in text
    assert "means over runs (3 of each method) ± their standard deviation" in text
    assert "| a | 26.0 ± 1.00 [21.0, 31.0] |" in text
    assert "| b | PSNR ↑ | +1.50 ± 1.00 | [1.00, 2.00] |" in text
    assert r"\textbf{27.5} $\pm$ 2.00" in latex({"made": summary}, {})


def test_a_seed_that_is_missing_shows(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("b", 1)):
        results(tmp_path / f"seed{seed}" / f"{name}.json", name, [20.0 + seed])
    (dataset,) = collect([str(tmp_path)])
    summary = summarize(dataset, "a", str)
    assert "means over runs (1 of a, 2 of b)" in markdown({"made": summary}, {"made": ["psnr"]})
    assert math.isnan(summary["comparisons"]["psnr"]["b"]["spread"])  # nothing to pair


def test_folders_of_runs_and_names(tmp_path):
    run = tmp_path / "table4_full_attention"
    results(run / "test_stereo4d.json", "model", [20.0])
    results(run / "test_stereo4d_warped.json", "warped", [18.0])
    (run / "config.json").write_text("[]")
    (dataset,) = collect([str(run)])
    assert list(dataset.methods) == ["table4_full_attention", "warped"]
    (dataset,) = collect([f"ours={run}"])
    assert list(dataset.methods) == ["ours", "warped"]


def test_paths_may_hold_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results(Path("lr=1e-4") / "test_stereo4d.json", "model", [20.0])
    results(Path("e=mc2") / "report.json", "blurred", [18.0])
    given = ["lr=1e-4", "ours=lr=1e-4", "a=b=lr=1e-4", "e=mc2/report.json", "file=e=mc2/report.json"]
    (dataset,) = collect(given)
    assert list(dataset.methods) == ["lr=1e-4", "ours", "a=b", "blurred", "file"]
    with pytest.raises(UserError, match=r"is the input e=mc2/report\.json, which is never written over"):
        report(given, output=Path("e=mc2"))
    with pytest.raises(UserError, match=r"^lr=2/test\.json does not exist"):
        collect(["other=lr=2/test.json"])


def test_validations_are_left_out_where_the_run_was_tested(tmp_path):
    for step in (1, 2):
        results(tmp_path / "run" / f"val_step{step}_made.json", "model", [10.0 + step], "made")
    with pytest.raises(UserError, match=r"run holds 2 results of model on made, of several steps"):
        collect([str(tmp_path / "run")])
    results(tmp_path / "run" / "test_step2_made.json", "model", [20.0], "made")
    assert collect([str(tmp_path / "run")])[0].methods["run"].mean("psnr") == 20


def test_methods_differ_but_protocols_must_not(tmp_path, caplog):
    for method, warp in (("a", "own"), ("b", "own"), ("c", "m2svid")):
        protocol = {"warp": warp, "method": {"class": method}}
        videos = [VideoResult("v", {"psnr": 20.0})]
        Results(method, "made", videos, {}, protocol).write(tmp_path / f"{method}.json")
    collect([str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert caplog.text == ""
    collect([str(tmp_path / "a.json"), str(tmp_path / "c.json")])
    assert 'so that values don\'t compare: warp is "own" for a, "m2svid" for c' in caplog.text


def test_values_that_are_none_and_values_that_are_broken(tmp_path):
    inside = [math.nan, 30.0]
    file = results(tmp_path / "a.json", "a", [20.0, math.nan], psnr_inside=inside, seam=[None, 1.5])
    content = json.loads((tmp_path / "a.json").read_text())
    content["videos"][0]["values"]["hole_share"] = 0
    (tmp_path / "a.json").write_text(json.dumps(content))
    method = collect([file])[0].methods["a"]
    assert method.mean("psnr_inside") == 30  # the first video has no hole
    assert method.mean("seam") == 1.5
    assert math.isnan(method.mean("psnr"))  # a broken prediction shows


def test_only_videos_in_common_are_compared(tmp_path, caplog):
    files = [results(tmp_path / f"{m}.json", m, [20.0] * count) for m, count in (("a", 3), ("b", 2))]
    (dataset,) = collect(files)
    assert dataset.videos == ["v0", "v1"]
    assert "1 videos are left out" in caplog.text


def test_what_is_not_alike_is_said_in_the_report(tmp_path, caplog):
    files = [
        results(tmp_path / "a.json", "a", [20.0], lpips=[0.1]),
        results(tmp_path / "b.json", "b", [20.0], flicker_truth=[1.0]),
        results(tmp_path / "c.json", "c", [20.0], dataset="ego4d"),
    ]
    report(files, output=tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert ". lpips is left out, which b lack. no results of c\n" in text
    assert ". no results of a, b\n" in text
    assert "flicker_truth" not in text  # nothing that would be compared
    assert "stereo4d: lpips is left out, which b lack" in caplog.text


def test_sources_of_clips():
    assert source_of("film/000016", None) == "film"
    assert source_of("film/3", None) == "film/3"
    assert source_of("day2_clip7", re.compile(r"(day\d)_")) == "day2"
    with pytest.raises(UserError, match="matches nothing in the name 'x'"):
        source_of("x", re.compile("day"))


def test_better_and_worse():
    assert score("psnr_inside", 3) > score("psnr_inside", 2)
    assert score("lpips", 0.1) > score("lpips", 0.2)
    assert score("seam", 1.1) > score("seam", 0.5) == pytest.approx(score("seam", 2))
    assert score("disparity_sgbm_matched", 1) > score("disparity_sgbm_matched", 0.5)
    assert score("disparity_sgbm_epe", 1) < score("disparity_sgbm_epe", 0.5)
    assert score("siou_wrapped", 1) > score("siou_wrapped", 0)
    assert not compared("flicker_truth_inside")
    assert not compared("hole_share")
    assert heading("ms_ssim_masked_inside") == "MS-SSIM masked inside ↑"
    assert heading("flicker_ratio") == "flicker ratio →1"


def test_latex_has_the_papers_numbers_beside_ours(tmp_path):
    names = ("table4_full_attention", "my_method")
    files = []
    for name, psnr in zip(names, (26.04, 26.26), strict=True):
        metrics = {"ms_ssim": [0.91], "lpips": [0.2 if name == "my_method" else 0.181]}
        files.append(results(tmp_path / f"{name}.json", name, [psnr], **metrics))
        files.append(results(tmp_path / f"{name}e.json", name, [20.0], dataset="ego4d"))
    summaries = {d.name: summarize(d, names[0], str) for d in collect(files)}
    lines = latex(summaries, {"my_method": "table5_c"}).splitlines()
    assert r"\multicolumn{3}{c}{stereo4d} & \multicolumn{1}{c}{ego4d}" in lines[3]
    ours = r"26.0 & \textbf{0.910} & \textbf{0.181} & \textbf{20.0} \\"
    assert lines[6] == rf"table4\_full\_attention & ours & {ours}"
    # Table 4, last row, and Table 5, C, as the paper prints them
    assert lines[7].endswith(r"1 step & paper & 26.2 & 0.915 & 0.180 & 22.7 \\")
    assert lines[8].startswith(r"my\_method & ours & \textbf{26.3}")
    assert lines[9].endswith(r"C: latent, 1 step & paper & 25.6 & 0.901 & 0.238 & 22.9 \\")


def test_latex_of_table_10_has_lpips_alone(tmp_path):
    """The paper's Table 10, by training and steps: LPIPS of Stereo4D and of Ego4D."""
    printed = {
        ("diffusion", 1): ("0.242", "0.320"), ("diffusion", 5): ("0.217", "0.278"),
        ("diffusion", 25): ("0.215", "0.267"), ("e2e", 1): ("0.179", "0.244"),
        ("e2e", 5): ("0.200", "0.260"), ("e2e", 25): ("0.243", "0.298"),
    }  # fmt: skip
    for training, steps in printed:
        name = f"table10_{training}_{steps}"
        for dataset in ("stereo4d", "ego4d"):
            results(tmp_path / "seed0" / f"{dataset}_{name}.json", name, [20.0], dataset, lpips=[0.5])
    summaries = {d.name: summarize(d, "table10_e2e_1", str) for d in collect([str(tmp_path)])}
    lines = latex(summaries, {}).splitlines()
    rows = [line.partition(" & ")[0] for line in lines if line.startswith("table10")]
    assert rows == [
        rf"table10\_{training}\_{steps}" for training, steps in printed
    ]  # 1, 5, 25: the paper's order
    for (training, steps), (stereo4d, ego4d) in printed.items():
        ours = next(i for i, line in enumerate(lines) if line.startswith(rf"table10\_{training}\_{steps} &"))
        cells = lines[ours + 1].rstrip("\\ ").split(" & ")
        assert list(summaries) == ["ego4d", "stereo4d"]
        assert cells[2:] == ["-", ego4d, "-", stereo4d]  # PSNR and LPIPS of each
        word = {"diffusion": "sampled t", "e2e": "fixed t = T"}[training]
        assert cells[0] == rf"\quad Table 10, {word}, {steps} step{'s' * (steps > 1)}"


def test_latex_of_the_regions(tmp_path):
    file = results(tmp_path / "a.json", "table1_svg", [20.0], psnr_inside=[35.04], psnr_outside=[25.0])
    (dataset,) = collect([file])
    text = latex({"Stereo4D": summarize(dataset, "table1_svg", str)}, {})
    inside = text[text.index("% inside") : text.index("% outside")]
    assert r"ours & \textbf{35.0} \\" in inside
    assert r"Table 1, SVG, 50 steps & paper & 38.1 \\" in inside  # Table 6


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Results with films of two methods on three clips."""
    folder = tmp_path_factory.mktemp("measured")
    for seed in range(3):
        views = stereo(seed=seed)
        film = {"truth": views["right"], "copied": views["left"]}
        film["blurred"] = np.stack([cv2.GaussianBlur(frame, (5, 5), 0) for frame in views["right"]])
        for name, frames in film.items():
            save_film(folder / name / f"clip{seed}.mkv", frames)
    for name in ("copied", "blurred"):
        options = {"metrics": ["psnr", "flicker"], "disparity": "none", "dataset": "made </script>"}
        measure(folder / name, folder / "truth", output=folder / f"{name}.json", **options)
    return folder


@pytest.fixture(scope="module")
def page(measured, tmp_path_factory):
    output = tmp_path_factory.mktemp("report")
    report([str(measured / "copied.json"), str(measured / "blurred.json")], output=output, clips=2)
    return output


def test_the_page_holds_everything(page, measured):
    html = (page / "index.html").read_text()
    assert set(re.findall(r"https?://[^\s\"']+", html)) == {"http://www.w3.org/2000/svg"}
    assert html.count("</script>") == 2
    data = json.loads(re.search(r'type="application/json">(.*?)</script>', html, re.DOTALL)[1])
    (section,) = data["datasets"]
    assert [clip["why"] for clip in section["clips"]] == ["worst 1", "best 1"]
    labels = [film["label"] for film in section["clips"][0]["films"]]
    assert labels == ["truth", "copied", "copied: error", "blurred", "blurred: error"]
    assert all(film["uri"].startswith("data:video/mp4;base64,") for film in section["clips"][0]["films"])
    facts = data["provenance"][0]["methods"]["copied"][0]["films"]["clip0"]["prediction"]
    assert facts == json.loads((measured / "copied.json").read_text())["videos"][0]["films"]["prediction"]


def test_json_and_markdown(page):
    content = json.loads((page / "report.json").read_text(), parse_constant=pytest.fail)
    values = content["videos"]["made </script>"]["blurred"]["psnr"]
    assert set(values) == {"clip0", "clip1", "clip2"}
    lines = (page / "report.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith("| blurred"))
    assert row.startswith(f"| blurred | {sum(values.values()) / 3:.1f} [")


@needs_browser
def test_the_page_in_a_browser(page):
    """The page after its scripts have run, offline."""
    html = shown((page / "index.html").as_uri())
    body = html[html.index("</style>") :]
    assert body.count('class="clip"') == 2
    assert body.count("<video") == 2 * (5 + 2)
    assert body.count("<svg") == 5  # psnr, also outside in both ways, flicker and flicker_ratio
    assert re.search(r"<td>blurred</td><td class=\"best\">\d+\.\d<small>\[", body)
    assert "frame 1 / 4" in body


def test_results_without_films(three, tmp_path):
    report(three, output=tmp_path / "report", reference="b", source=r"v(\d)")
    html = (tmp_path / "report" / "index.html").read_text()
    assert '"clips": []' in html
    assert "Against b" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"results": ["nowhere"]}, "nowhere does not exist"),
        ({"results": ["empty"]}, "holds no results: run `test` there"),
        ({"reference": "z"}, "--reference 'z' is none of a, b, c on stereo4d"),
        (
            {"metrics": ["psnr", "fid"]},
            "fid was not measured for all .*; there are hole_share, psnr",
        ),
        ({"paper": {"a": "table9"}}, "'table9' of 'a' is no row of the paper; known are table1_svg"),
        ({"source": "("}, "no regular expression"),
    ],
)
def test_mistakes_are_refused(three, given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        report(**{"results": three, "output": tmp_path / "report"} | given)
    assert not (tmp_path / "report").exists()


def test_methods_without_a_video_in_common_are_refused(three, tmp_path):
    Results("d", "stereo4d", [VideoResult("other", {"psnr": 1.0})], {}).write(tmp_path / "d.json")
    with pytest.raises(UserError, match=r"a, b, c, d have no video in common"):
        collect([*three, str(tmp_path / "d.json")])


def test_the_verb_takes_several_files(three, tmp_path, capsys):
    from m2svid.cli import main

    main(["report", *three, "-o", str(tmp_path / "out")])
    assert json.loads(capsys.readouterr().out)["html"] == str(tmp_path / "out" / "index.html")
