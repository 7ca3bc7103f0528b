"""What tests of experiments share: a folder with a tiny recipe."""

import os

import pytest
from tiny_place import Place


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv('TINY_CALLS', str(tmp_path / 'calls.jsonl'))
    # Most of the time would be waiting for the disk.
    monkeypatch.setattr(os, 'fsync', lambda descriptor: None)
    return Place(tmp_path)


@pytest.fixture
def undisturbed(place):
    """Results and table of the chain when nothing happens."""
    plan = place.plan(work_dir='undisturbed')
    assert place.run(plan) == {}
    return place.results(plan), place.table(plan)
