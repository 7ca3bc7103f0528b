"""What tests of slides share: a disk that is nearly full."""

import resource
import signal

import pytest
from processes import run_forked


@pytest.fixture
def limited_files():
    """Call a function in a process whose files have a largest size."""
    def call(size, work):
        def limited():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            work()

        return run_forked(limited)[0]
    return call
