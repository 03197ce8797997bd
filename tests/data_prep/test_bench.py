"""The figures of preparing are all there."""

from data_prep.bench import run


def test_every_stage_has_a_speed():
    found = run(frames=4, width=1800, height=900, videos=1, ray=False, whole_runs=False)
    assert list(found["frames_per_s"]) == ["decode", "to_rgb", "rectify", "search_range", "match", "encode"]
    assert all(value > 0 for value in found["frames_per_s"].values())
    assert found["multiple_of_decoding"]["decode"] == 1
    public, theirs = found["projection"].values()
    assert theirs["core_hours"] > public["core_hours"] > 0
