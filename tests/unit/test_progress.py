"""Progress: a bar on a terminal, plain lines in a log."""

import sys

import pytest

from noisetransfer import progress as module
from noisetransfer.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands at `now[0]` seconds."""
    now = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_plain_line_every_30_seconds_and_one_at_the_end(clock, capsys):
    for item in progress(range(100), "testing"):
        assert item == clock[0] // 1
        clock[0] += 1
    assert capsys.readouterr().err.splitlines() == [
        "testing: 30/100, 00:30 elapsed, 01:10 left",
        "testing: 60/100, 01:00 elapsed, 00:40 left",
        "testing: 90/100, 01:30 elapsed, 00:10 left",
        "testing: 100/100, 01:40 elapsed, 00:00 left",
    ]


def test_steps_that_take_longer_than_that_get_a_line_each(clock, capsys):
    for _ in progress(range(3), "testing"):
        clock[0] += 3600
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "testing: 1/3, 1:00:00 elapsed, 2:00:00 left"
    assert len(lines) == 3


def test_nothing_to_do_says_nothing(capsys):
    assert list(progress([], "testing")) == []
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress(range(3), "testing")) == [0, 1, 2]
    shown = capsys.readouterr().err
    assert "\r" in shown
    assert "testing: 100%" in shown
