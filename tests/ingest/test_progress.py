"""Rates and times to go as they are told, on a clock that is turned by hand."""

import json

import pytest

import energylens.ingest.progress
from energylens.ingest.progress import Progress


def test_a_phase_that_begins_once_more_has_its_own_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(energylens.ingest.progress.time, "monotonic", lambda: now)
    progress = Progress(as_json=True)
    for seconds, done in ((1000, 0), (1010, 100), (1510, 0), (1520, 50), (1530, 100)):
        now = float(seconds)
        progress.step("block", done, 100, "tokens")
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["per_second"] for one in told] == [0.0, 10.0, 0.0, 5.0, 5.0]
    assert told[3]["eta_seconds"] == 10.0
