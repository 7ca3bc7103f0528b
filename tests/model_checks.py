"""What tests of several models check in the same way."""

from contextlib import contextmanager

import torch


@contextmanager
def unchanged(module):
    """Parameters and buffers are afterwards what they were."""
    before = {key: value.clone() for key, value in module.state_dict().items()}
    yield
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), key


def assert_trained(model, unseen=()):
    """All that is trained has a gradient, of zero where it is not seen."""
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), name
            assert bool(parameter.grad.any()) is not name.endswith(
                tuple(unseen)), name


def assert_near_in_bfloat16(losses, share):
    """Losses of a function change by a share, and stay in float32."""
    want = losses()
    with torch.autocast('cpu', torch.bfloat16):
        got = losses()
    for name, value in want.items():
        assert got[name].dtype == torch.float32
        assert abs(float(got[name] - value)) <= share * float(value), name
    return want, got


def tensors_of(value, path=''):
    """Tensors in nested dicts and lists, with the place of each."""
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            yield from tensors_of(part, f'{path}/{key}')
