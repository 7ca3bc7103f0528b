"""Let mmpretrain's model hub know the models of mmmedmask.

``mmpretrain.list_models()`` and its inferencers look a name up in a hub that
is filled from mmpretrain's own index alone (no upstream issue).

Delete when mmpretrain reads the indexes of other packages.
"""

import functools

from mmmedmask.compat.replacing import replaces


def extend_model_hub() -> None:
    """Add our models when mmpretrain's own join; imports its model hub."""
    from mmpretrain.apis.model import ModelHub

    @functools.cache
    def add_own() -> None:
        from mmmedmask.config_files import MODEL_INDEX, find_config_folder
        root = find_config_folder().parent
        ModelHub.register_model_index(root / MODEL_INDEX, root)

    @replaces(ModelHub, '_register_mmpretrain_models')
    def register_all(register_own):
        register_own()
        add_own()
