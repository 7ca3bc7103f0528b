"""Shrink configs of ConCL."""

from mmengine.config import Config

CONCL = 'mmmedmask.ConCL'
#: Places in the queues: no less than the concepts of a batch.
QUEUE_LEN = 64


def shrink_concl(cfg: Config) -> None:
    """Make the queues short, and let concepts count from the first step.

    Args:
        cfg: The config, changed in place.
    """
    cfg.model.update(queue_len=QUEUE_LEN, warm_up_epochs=0)
