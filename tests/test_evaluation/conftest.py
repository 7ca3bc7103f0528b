"""What the tests of the metrics share."""

import logging

import pytest


@pytest.fixture
def warnings_logged(monkeypatch):
    """What metrics warn of."""
    messages = []

    def record(message, logger=None, level=logging.INFO):
        if level >= logging.WARNING:
            messages.append(message)

    monkeypatch.setattr('mmmedmask.evaluation.base_metric.print_log', record)
    return messages
