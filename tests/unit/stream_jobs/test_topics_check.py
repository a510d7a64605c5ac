from types import SimpleNamespace

import click
import pytest

from infra.ports import TryAgain
from stream_jobs.jobs_cli import check_topics
from stream_jobs.settings import JobSettings
from stream_jobs.topics_check import NEEDED

DEFAULT = JobSettings()


def cluster(**counts):
    """A cluster of topics with 6 partitions but for those named, by the end of their names."""
    found = {topic.name: 6 for topic in NEEDED}
    for end, count in counts.items():
        (name,) = [name for name in found if name.endswith(end.replace("_", "."))]
        found[name] = count
    return SimpleNamespace(partitions=found.__getitem__)


def test_topics_that_fit_are_good():
    assert set(check_topics(cluster(), DEFAULT).values()) == {6}
    check_topics(cluster(requests_state=12, inference_requests=3), DEFAULT)


def test_a_topic_that_is_not_there_may_come():
    with pytest.raises(TryAgain, match=r"no topic inference\.windows: `inferwatch topics apply` makes it"):
        check_topics(cluster(inference_windows=0), DEFAULT)


@pytest.mark.parametrize("grown", ["inference_telemetry", "inference_windows"])
def test_state_without_a_place_for_each_partition_is_refused_with_the_way_out(grown):
    said = r"state has 6 partitions .* 12: .*\nWay out: `inferwatch topics apply`"
    with pytest.raises(click.ClickException, match=said) as why:
        check_topics(cluster(**{grown: 12}), DEFAULT)
    assert why.value.exit_code == 78


def test_a_budget_that_leaves_a_partition_without_a_share_is_refused_with_the_ways_out():
    said = r"ALERTS_A_WEEK=5: inference\.windows has 6 partitions.*\nWays out: set it to 6 or more"
    with pytest.raises(click.ClickException, match=said) as why:
        check_topics(cluster(), JobSettings(alerts_a_week=5))
    assert why.value.exit_code == 78
    assert check_topics(cluster(), JobSettings(alerts_a_week=6))
