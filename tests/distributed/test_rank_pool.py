"""The rank pool, which runs the other tests here, reports failures at once."""

import pytest
from ranks import pool_bodies

HOUR = 3600.0


def test_failed_rank_is_reported_without_waiting_for_the_others(ranks):
    with pytest.raises(RuntimeError, match=r"rank 0: no answer in time\nrank 1: Traceback(.|\n)*it has failed"):
        ranks(2).run(pool_bodies.wait_for_one_that_fails, timeout=HOUR)
    assert ranks(2).run(pool_bodies.say, "again") == ["again 0", "again 1"]
