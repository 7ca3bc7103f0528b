"""What a model can know of the run that trains it: seed and iteration."""

from mmengine.logging import MessageHub


def run_info(name: str) -> int:
    """What MMEngine's runner says of itself; 0 where there is no runner.

    Args:
        name: ``'seed'``, ``'iter'`` or ``'epoch'``.

    Returns:
        The number.
    """
    hub = MessageHub.get_current_instance()
    return int(hub.get_info(name)) if name in hub.runtime_info else 0
