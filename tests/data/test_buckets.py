"""Which bucket a batch has."""

from collections import Counter

import pytest

from m2svid.data.buckets import PAPER_BUCKETS, Bucket, BucketSchedule
from m2svid.errors import UserError


def test_shares_follow_the_weights():
    schedule = BucketSchedule([Bucket(4, 8, 8, weight=3), Bucket(2, 8, 8, weight=1)], seed=1)
    drawn = Counter(schedule[batch].frames for batch in range(4000))
    assert 0.72 < drawn[4] / 4000 < 0.78


def test_the_schedule_is_a_function_of_seed_and_batch():
    one, two, other = (BucketSchedule(PAPER_BUCKETS, seed) for seed in (5, 5, 6))
    drawn = [one[batch] for batch in range(60)]
    assert drawn == [two[batch] for batch in reversed(range(60))][::-1]
    assert drawn != [other[batch] for batch in range(60)]


@pytest.mark.parametrize("options", [{"frames": 0}, {"height": -8}, {"batch_size": 0}, {"weight": 0}])
def test_wrong_options_are_named(options):
    with pytest.raises(UserError, match=f"bucket option {next(iter(options))}"):
        Bucket(**{"frames": 4, "height": 8, "width": 8} | options)


def test_no_buckets():
    with pytest.raises(UserError, match="option buckets"):
        BucketSchedule([], 0)
