"""What a scheduler is does not change while it runs."""

import inspect

import mmdet.engine  # noqa: F401
import mmpretrain.engine  # noqa: F401
import mmseg.engine  # noqa: F401
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from mmmedmask.engine.checkpoint import loaded_state

#: What constructors ask for, of whichever scheduler.
ARGUMENTS = dict(param_name='lr', step_size=2, milestones=[2, 4], gamma=.5,
                 T_max=6, eta_min=0, eta_max=.2, total_steps=8,
                 periods=[4, 4], restart_weights=[1, 1], monitor='score')
SCHEDULERS = {
    kind.__name__: kind
    for registry in (PARAM_SCHEDULERS, *PARAM_SCHEDULERS.children.values())
    for kind in registry.module_dict.values()}


@pytest.mark.parametrize('name', SCHEDULERS)
def test_steps_do_not_change_what_a_scheduler_is(name):
    names = {key for part in SCHEDULERS[name].__mro__
             for key in inspect.signature(part.__init__).parameters}
    if not name.endswith('ParamScheduler'):
        names.remove('param_name')
    wrapper = OptimWrapper(torch.optim.SGD(
        [torch.nn.Parameter(torch.ones(1))], lr=.1, momentum=.9,
        weight_decay=.1))
    scheduler = SCHEDULERS[name](optimizer=wrapper, end=8, **{
        key: value for key, value in ARGUMENTS.items() if key in names})
    progress = loaded_state._progress([scheduler])
    before = loaded_state._kind(scheduler.state_dict(), progress)
    for score in (3, 2, *[4] * 15):
        wrapper.step()
        scheduler.step(*[dict(score=score)] * ('monitor' in names))
    assert loaded_state._kind(scheduler.state_dict(), progress) == before
    assert {'begin', 'end', 'by_epoch'} < before.keys()
