"""Every test starts from the same random state, outside of any run."""

import pytest
import torch
from mmengine.logging import MessageHub


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    # What another test's runner left behind would be taken for this run's.
    hub = MessageHub.get_current_instance()
    for name in ('seed', 'iter'):
        hub.runtime_info.pop(name, None)
