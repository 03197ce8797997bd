"""The references of the warp bench do the same work."""

from m2svid.bench.warp import run


def test_results_are_those_of_the_references():
    result = run(frames=2, size=48, repeats=1, threads=1)
    assert result["pixels_that_differ"] == 0
    assert result["warp_ms"] > 0 and result["times_faster_than_numpy_scatter"] > 0
