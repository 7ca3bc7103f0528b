"""Every test starts from the same random state, outside of any run."""

import pytest
import torch
from mmengine.logging import MessageHub


@pytest.fixture(autouse=True)
def run_state():
    """What a test writes here is what a runner would tell the model."""
    torch.manual_seed(0)
    runtime = MessageHub.get_current_instance().runtime_info
    names = ('seed', 'iter', 'epoch', 'max_epochs')
    before = {name: runtime.pop(name) for name in names if name in runtime}
    yield runtime
    for name in names:
        runtime.pop(name, None)
    runtime.update(before)
