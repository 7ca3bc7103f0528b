"""Shrink configs of mmpretrain's models with a ResNet.

Contrastive learning (SimCLR, BYOL, MoCo, DenseCL), SparK and classifiers. The
networks keep their width, so that a detector can inherit them; images are
small, and queues short.
"""

from pathlib import Path

from mmengine.config import Config

from mmmedmask.phantoms.tiny_datasets import write_tile_folder
from mmmedmask.util.nested import nested_dicts

#: Side of images and views: three of SparK's patches of 32.
SIDE = 96
#: Keys in a queue; a multiple of a shrunk batch.
QUEUE_LEN = 64
MODELS = ('BYOL', 'DenseCL', 'ImageClassifier', 'MoCo', 'SimCLR', 'SparK')
BACKBONES = ('ResNet', 'SparseResNet')
RESIZING = ('RandomResizedCrop', 'ResizeImage')


def shrink_convolutional(cfg: Config) -> None:
    """Give a model with a ResNet small images and a short queue.

    Others, and models that are not in ``MODELS``, are left as they are.

    Args:
        cfg: The config, changed in place.
    """
    model = cfg.model
    kind = str((model.get('backbone') or {}).get('type')).split('.')[-1]
    if model.type not in MODELS or kind not in BACKBONES:
        return
    if 'queue_len' in model:
        model.queue_len = QUEUE_LEN
    if 'input_size' in model:
        model.input_size = SIDE
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for node in nested_dicts(cfg.get(name)):
            if str(node.get('type')).split('.')[-1] in RESIZING:
                node['scale'] = SIDE
    for hook in nested_dicts(cfg.get('custom_hooks')):
        if hook.get('type') == 'DenseCLHook':
            hook['start_iters'] = 0


def draw_class_folders(dataset: dict, root: Path) -> None:
    """Draw what mmpretrain's ``CustomDataset`` reads: a folder per class.

    Args:
        dataset: Config of the data set.
        root: Its folder; what is there is used again.
    """
    if root.exists():
        return
    for number, name in enumerate(('first', 'second', 'third')):
        write_tile_folder(root / name, num_tiles=2, seed=2 * number)
