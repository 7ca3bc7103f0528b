"""CMIM in the demo: tissue tiles, pre-training, Mask R-CNN on glands."""

import shlex
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import probe
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from demo_parts import runs
from demo_parts.stage import Stage
from mmmedmask.apis.backbone_export import export_backbone
from mmmedmask.engine.preserved_state import evaluating
from mmmedmask.phantoms.glands import write_gland_dataset, write_tissue_tiles
from mmmedmask.visualization import (
    Column,
    PictureUnits,
    draw_grid,
    draw_instances,
    reconstruct,
    reconstruction_columns,
)
from mmmedmask.visualization.curves import draw_curves, read_scalars
from mmmedmask.visualization.grid import stack
from mmmedmask.visualization.html_report import Figure, Section

PRETRAINING = 'cmim/demo/cmim_resnet18_1xb32-coslr-12e_ihc-tiles.py'
DETECTION = ('cmim/demo/'
             'mask-rcnn_cmim-resnet18-fpn_1xb4-100i_gland-phantoms.py')

TILE_SIZE, TILE_STRIDE = 96, 32
# Images of glands to fit a probe on, besides all, and most of them to use.
FEW, MOST = 4, 12
# Tiles from this column on are held out; those that overlap are dropped.
HELD_OUT_FROM = 416
GLAND_SIZE, GLAND_SCALE = 160, 0.45
SHOWN_SCORE = 0.5
CELL = 192  # Side of the overview's pictures in pixels.


def write_tiles(root: Path) -> tuple[int, int]:
    """Cut the tissue into tiles below ``train`` and ``held_out``.

    The two share no pixel. Gives the number of tiles in both.
    """
    train, held_out = root / 'train', root / 'held_out'
    held_out.mkdir(parents=True, exist_ok=True)
    for path in write_tissue_tiles(train, TILE_SIZE, TILE_STRIDE):
        left = int(path.stem.rpartition('_')[2])
        if left >= HELD_OUT_FROM:
            path.replace(held_out / path.name)
        elif left + TILE_SIZE > HELD_OUT_FROM:
            path.unlink()
    return len(list(train.iterdir())), len(list(held_out.iterdir()))


class Reconstructions(Hook):
    """Reconstruct some held-out tiles before and after training."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number
        self.before: torch.Tensor | None = None
        self.after: torch.Tensor | None = None

    def before_train(self, runner: Runner) -> None:
        """Draw views and masks once, and reconstruct."""
        dataset = DATASETS.build(
            dict(runner.cfg.train_dataloader.dataset,
                 data_root=str(self.folder), indices=None))
        indices = np.linspace(0, len(dataset) - 1, self.number).round()
        batch = pseudo_collate([dataset[int(index)] for index in indices])
        model = runner.model
        with torch.no_grad():
            self.inputs = model.data_preprocessor(batch, True)['inputs']
        self.units = PictureUnits.from_preprocessor(model.data_preprocessor)
        self.before = self._reconstruct(model)

    def after_train(self, runner: Runner) -> None:
        self.after = self._reconstruct(runner.model)

    def _reconstruct(self, model: torch.nn.Module) -> torch.Tensor:
        with evaluating(model):
            pixels, self.weight = reconstruct(model, self.inputs)
        return pixels

    def columns(self) -> list[Column]:
        """Columns of the figure: from the query to the target."""
        query, masked, asked, _, before, key = reconstruction_columns(
            self.inputs, self.before, self.weight, self.units)
        *_, after, _ = reconstruction_columns(self.inputs, self.after,
                                              self.weight, self.units)
        return [
            query, masked, asked,
            Column('Before training', 'what is filled in', before.pictures),
            Column('After training', 'what is filled in', after.pictures), key]


def draw_detections(runner: Runner, number: int) -> list[Column]:
    """Let a trained detector look at some test images."""
    dataset = runner.val_dataloader.dataset
    model = runner.model.eval()
    images, truths, detections = [], [], []
    for index in np.linspace(0, len(dataset) - 1, number).round():
        sample = dataset[int(index)]
        with torch.no_grad():
            result = model.test_step(pseudo_collate([sample]))[0]
        image = cv2.imread(result.img_path)[..., ::-1].copy()
        truth = sample['data_samples'].gt_instances.masks.to_ndarray()
        kept = result.pred_instances
        kept = kept[kept.scores >= SHOWN_SCORE].cpu()
        images.append(draw_instances(image, []))
        truths.append(draw_instances(image, list(truth.astype(bool))))
        detections.append(draw_instances(image, list(kept.masks.numpy()),
                                         kept.scores.tolist()))
    return [Column('Image', 'not seen in training', images),
            Column('Truth', 'the glands as they were drawn', truths),
            Column('Found',
                   f'detections with a score of {SHOWN_SCORE} or more',
                   detections)]


def draw_overview(reconstructions: list[Column],
                  detections: list[Column]) -> np.ndarray:
    """Draw both results in one picture of six columns."""
    rows = len(reconstructions[0].pictures) // 2
    top = draw_grid(
        [Column(c.title, c.subtitle, c.pictures[:rows])
         for c in reconstructions],
        heading='Pre-training: reconstruct one view from another, masked one',
        min_side=CELL)
    half = len(detections[0].pictures) // 2
    bottom = draw_grid(
        [Column(c.title, c.subtitle,
                [cv2.resize(picture, (CELL, CELL),
                            interpolation=cv2.INTER_AREA)
                 for picture in c.pictures[part]])
         for part in (slice(0, half), slice(half, 2 * half))
         for c in detections],
        heading='Fine-tuning: Mask R-CNN that starts from this encoder',
        min_side=CELL)
    return stack([top, bottom])


def run(stage: Stage, start_others: Callable[[], None]) -> runs.PartResult:
    """Pre-train on tissue, carry the weights into Mask R-CNN, show both.

    ``start_others`` starts what runs beside all that follows pre-training,
    which alone gains much from all cores.
    """
    part = runs.Part(stage, 'cmim')
    tiles, glands = part.data('ihc_tiles'), part.data('gland_phantoms')
    num_train, num_test = (4, 2) if stage.smoke else (48, 16)
    precision = {}
    if runs.bfloat16_is_faster():
        precision['optim_wrapper.type'] = 'mmmedmask.Bfloat16OptimWrapper'

    sections = []
    with stage.step('Data') as step:
        numbers = write_tiles(tiles)
        write_gland_dataset(
            glands, num_train, num_test, GLAND_SIZE, scale=GLAND_SCALE)
        step.result = (f'{numbers[0]} tiles of tissue, {num_train} + '
                       f'{num_test} drawn gland images')

    with stage.step('Pre-training') as step:
        shown = Reconstructions(tiles / 'held_out', number=6)
        few = {'train_dataloader.dataset.indices': 16} if stage.smoke else {}
        pretraining = part.train(step, 'pretraining', PRETRAINING,
                                 'pre-train', few | precision, [shown])
        losses = read_scalars(pretraining.log_dir, 'loss')
        step.result = (f'loss {losses[0][1]:.2f} -> {losses[-1][1]:.2f} in '
                       f'{pretraining.iter} iterations')
    start_others()
    sections.append(describe_pretraining(pretraining, shown, losses, numbers,
                                         step.seconds))

    with stage.step('Export') as step:
        checkpoint = runs.last_checkpoint(part.folder / 'pretraining')
        backbone = part.folder / 'backbone.pth'
        exported = export_backbone(checkpoint, backbone)['state_dict']
        step.result = f'{len(exported)} tensors of the encoder'
    part.add_command(
        'look at reconstructions', 'visualizations/visualize_reconstruction',
        PRETRAINING, checkpoint, '--out', 'panel.png')
    part.commands += ['# keep the encoder alone', shlex.join([
        'python', 'tools/model_converters/export_backbone.py',
        str(checkpoint), str(backbone), '--force'])]

    with stage.step('Probe') as step:
        few, most = (2, 4) if stage.smoke else (FEW, MOST)
        words = ['--config', f'configs/{PRETRAINING}', '--arm', 'cmim',
                 str(checkpoint), '--dense', str(glands), '--few', str(few),
                 '--max-images', str(most)]
        tables = probe.tables(*probe.measure(probe.parse_args(
            ['--config', str(runs.CONFIGS / PRETRAINING), *words[2:]])))
        # Without intervals.
        names = {row[0]: row[-1].partition(' ')[0] for row in tables[0]}
        step.result = (f'pixels in glands: AUC {names["cmim"]} %, random '
                       f'{names["random"]}, colour {names["colour alone"]}')
    sections.append(describe_probe(tables, few, most, step.seconds))
    part.commands += ['# what can be read off the frozen encoder',
                      shlex.join(['python', 'tools/probe.py', *words])]

    with stage.step('Mask R-CNN') as step:
        detection = part.train(step, 'mask_rcnn', DETECTION, 'fine-tune',
                               precision)
        part.test_command(DETECTION, detection)
        accuracy = read_accuracy(detection)
        step.result = (f'box AP {accuracy["box AP"]} %, mask AP '
                       f'{accuracy["mask AP"]} % on {num_test} other images')
    seconds = step.seconds

    with stage.step('Pictures') as step:
        detections = draw_detections(detection, 2 if stage.smoke else 4)
        sections.append(describe_detection(detection, detections, accuracy,
                                           seconds))
        overview = draw_overview(shown.columns(), detections)
        written = part.save_pictures(
            sections, 'reconstructions', 'pretraining_loss', 'detections',
            'detection_loss')
        step.result = f'{written} files in {stage.out / "pictures"}'
    return runs.PartResult(sections, overview, part.commands)


def read_accuracy(runner: Runner) -> dict[str, str]:
    """Average precision after the last iteration, as table rows."""
    scalars = runner.message_hub.log_scalars
    rows = {}
    for kind, metric in (('box', 'bbox'), ('mask', 'segm')):
        for suffix, name in (('', 'AP'), ('_50', 'AP50'), ('_75', 'AP75')):
            value = scalars[f'val/coco/{metric}_mAP{suffix}'].current()
            rows[f'{kind} {name}'] = f'{100 * value:.1f}'
    return rows


def describe_pretraining(runner: Runner, shown: Reconstructions,
                         losses: list[tuple[int, float]],
                         numbers: tuple[int, int], seconds: float) -> Section:
    preprocessor = runner.model.data_preprocessor
    side = preprocessor.view_size[0]
    return Section(
        'CMIM: pre-training without labels',
        ['Two crops are taken from each tile. The query view gets other '
         f'colours and loses {preprocessor.mask_ratio:.0%} of its patches; '
         'the network has to draw the missing tissue, not in the query view '
         'but where the same tissue lies in the key view. For that its '
         'feature maps are moved by the transformation between the two crops.',
         f'Here a ResNet-18 sees {numbers[0]} overlapping tiles of one '
         f'image, in views of {side} x {side} pixels. The rows below are '
         f'from {numbers[1]} tiles at the other end of the image that it '
         'has not seen. Fine structure stays blurred: this is a minute of '
         'training, and where several patterns are possible the mean of '
         'them has the smallest error.'],
        [Figure(
             draw_grid(shown.columns(), min_side=CELL),
             'Held-out tiles. The green outline encloses what is asked '
             'for: the masked patches, found again in the key view. '
             'Outside of it the key view itself is shown in the columns '
             'before and after training.'),
         Figure(
             draw_curves({'pre-training loss': losses}, window=20),
             'Mean squared error of the pixels that are asked for, in '
             'units of their standard deviation.')],
        [('Iterations', f'{runner.iter} of '
          f'{runner.train_dataloader.batch_size} tiles'),
         ('Loss', f'{losses[0][1]:.3f} at first, {losses[-1][1]:.3f} at last'),
         ('Precision', describe_precision(runner))],
        seconds)


def describe_probe(tables: list[list[list[str]]], few: int, most: int,
                   seconds: float) -> Section:
    """Write the report's section on the probe: its table, two in one."""
    scores, differences = tables
    return Section(
        'What can be read off the frozen encoder',
        ['A logistic regression of single pixels: are they in a gland? It is '
         f'fitted on {few} drawn images, and on {most}, and tested on others; '
         'the encoder stays as it is. The score is the area under the ROC '
         'curve in percent, with its 95 % interval over the test images; '
         'beside it stand the same encoder at random weights and the colour '
         'of the pixels alone.'],
        facts=[*scores, *differences[1:]], seconds=seconds)


def describe_detection(runner: Runner, columns: list[Column],
                       accuracy: dict[str, str], seconds: float) -> Section:
    losses = read_scalars(runner.log_dir, 'loss')
    numbers = [len(loader.dataset)
               for loader in (runner.train_dataloader, runner.val_dataloader)]
    return Section(
        'Mask R-CNN from these weights',
        ['The exported encoder becomes the backbone of a Mask R-CNN by '
         'one line of its config, and a hook compares every tensor with '
         'the file before training starts.',
         f'It learns to outline glands on {numbers[0]} drawn images with '
         f'exact masks and is tested on {numbers[1]} others. Glands are '
         'cut by the border, touch, and share their look with vessels, '
         'so a minute of training does not find them all.'],
        [Figure(
             draw_grid(columns),
             'Test images, each gland in a colour of its own; colours '
             'mean nothing. Numbers are scores.'),
         Figure(draw_curves({'Mask R-CNN loss': losses}, window=20),
                'Sum of the detector\'s five losses.')],
        [('Weights', runs.find_in_log(runner, 'Load check of')),
         ('Iterations', f'{runner.iter} of '
          f'{runner.cfg.train_dataloader.batch_size} images'),
         ('Precision', describe_precision(runner)),
         *((f'{name} in %', value) for name, value in accuracy.items())],
        seconds)


def describe_precision(runner: Runner) -> str:
    """Name the number format that a run computes in."""
    mixed = 'Bfloat16' in type(runner.optim_wrapper).__name__
    return ('bfloat16 (autocast), which this CPU computes faster'
            if mixed else 'float32')
