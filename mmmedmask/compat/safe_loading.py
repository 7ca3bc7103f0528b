"""Read weights without running code from them, wherever MMEngine reads some.

MMEngine tries ``torch.load(weights_only=True)`` and, when a file holds other
objects, goes on with ``weights_only=False``, which runs whatever code the
file asks for: by ``load_from``, by a resume and by every ``init_cfg`` of type
``Pretrained`` (no upstream issue). All of these go through
``CheckpointLoader``, whose readers are replaced here by
:func:`mmmedmask.engine.checkpoint.read_checkpoint`.

Delete when MMEngine refuses what ``weights_only=True`` refuses.
"""


def read_weights_safely() -> None:
    """Replace all readers of MMEngine's ``CheckpointLoader``.

    Schemes that :func:`~mmmedmask.engine.checkpoint.read_checkpoint` does not
    know, such as ``s3://``, are refused with what to do instead.
    """
    from mmengine.runner.checkpoint import CheckpointLoader
    for scheme in {'', *CheckpointLoader._schemes}:
        CheckpointLoader.register_scheme(
            scheme, load_from_weights_only, force=True)


def load_from_weights_only(filename: str, map_location: object = None,
                 **options: object) -> dict:
    """Read a checkpoint; the signature is that of MMEngine's readers."""
    from mmmedmask.engine.checkpoint.reading import read_checkpoint
    return read_checkpoint(filename, map_location or 'cpu')
