"""The default detector passes River's own checks of an anomaly detector, on a data set made here."""

import sys
import types

import numpy as np
import pytest
from river import checks
from river.base import AnomalyDetector

from stream_jobs.detectors.two_heads import TwoHeads


class Checked(TwoHeads, AnomalyDetector):
    """River's checks ask for River's base class, which the product does not import: it takes seconds."""

    def __init__(self, channels=None, policy=None):
        super().__init__(channels, policy)


def made_data(rows):
    """Three channels; one row in fifty is off in two of them."""
    rng = np.random.default_rng(11)
    values = rng.normal(5, 1, (rows, 3))
    faults = rng.random(rows) < 0.02
    values[faults, :2] += rng.normal(0, 12, (int(faults.sum()), 2))
    return [
        (dict(zip("abc", row, strict=True)), fault) for row, fault in zip(values.tolist(), faults.tolist(), strict=True)
    ]


CHECKS = {}
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(checks, "_yield_datasets", lambda model, scale=1: iter([made_data(300 if scale == 1 else 600)]))
    for found in checks.yield_checks(Checked()):
        CHECKS[found.__name__] = found


def test_the_checks_are_all_there():
    assert {"check_learn_one", "check_roc_auc", "check_pickling", "check_emerging_features"} <= set(CHECKS)
    assert len(CHECKS) >= 20


def roc_auc_score(labels, scores):
    """Share of pairs of an anomaly and another point that are ranked right: what scikit-learn would compute."""
    labels, scores = np.array(labels), np.array(scores)
    above = scores[labels][:, None] - scores[~labels][None, :]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_check(name, monkeypatch):
    metrics = types.SimpleNamespace(roc_auc_score=roc_auc_score)
    monkeypatch.setitem(sys.modules, "sklearn", types.SimpleNamespace(metrics=metrics))
    CHECKS[name](Checked())
