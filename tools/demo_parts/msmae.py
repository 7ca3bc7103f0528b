"""MSMAE in the demo: drawn lesions, masks that follow them, a real retina."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import skimage.data
import torch
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from demo_parts import runs
from demo_parts.stage import Stage
from mmmedmask.engine.attention.attention_panel_hook import load_panel, look_at
from mmmedmask.engine.hooks import AttentionMaskHook
from mmmedmask.engine.preserved_state import at_iteration, evaluating
from mmmedmask.engine.wrapped_datasets import list_sources
from mmmedmask.functional.attention_masking import (
    TokenPartition,
    partition_tokens,
)
from mmmedmask.functional.lesion_coverage import (
    attention_on_lesion,
    lesion_patches,
    masking_of_lesion,
)
from mmmedmask.phantoms.lesions import (
    LESION_CLASSES,
    draw_lesions_on,
    write_lesion_dataset,
)
from mmmedmask.visualization import Column, PictureUnits, draw_grid
from mmmedmask.visualization.attention_pictures import (
    cover_partition,
    outline_lesions,
    overlay_map,
)
from mmmedmask.visualization.curves import draw_curves, read_scalars
from mmmedmask.visualization.grid import stack
from mmmedmask.visualization.html_report import Figure, Section

PRETRAINING = 'msmae/demo/msmae_vit-micro-p8_1xb16-12e_lesion-phantoms.py'
FINE_TUNING = ('msmae/demo/'
               'vit-micro-p8_msmae-random-tokens_1xb32-6e_lesion-phantoms.py')

IMAGE_SIZE, LESION_SIZE = 64, 8
NUM_SHOWN = 4
NUM_DRAWS = 8
# The largest square inside of the round photograph, the side it is shrunk to
# and the number of tiles along it, each of the size that the model knows.
RETINA_SQUARE = slice(220, 1190)
RETINA_TILES = 5
RETINA_SIDE = RETINA_TILES * IMAGE_SIZE
CELL = 192  # Side of the pictures in pixels.


class Masking(NamedTuple):
    """Images, and where a masking by attention and one by chance go."""

    pictures: np.ndarray  # uint8 pictures (B, H, W, 3).
    lesions: np.ndarray  # Lesion masks, bool (B, H, W).
    maps: torch.Tensor  # What the class token looks at, (B, gh, gw).
    by_attention: TokenPartition
    # Masking from the same noise, all patches alike.
    by_chance: TokenPartition
    # Share of the lesions' patches that masking by attention hides, over
    # several draws; of all patches, ``masked_chance``.
    masked: float
    masked_chance: float
    pointing: float  # Share of the images whose map is largest on the lesion.


def mask_images(model: torch.nn.Module, pictures: np.ndarray,
                lesions: np.ndarray, maps: torch.Tensor) -> Masking:
    """Mask images by their maps and by chance, and count the lesions."""
    weights = maps.float().flatten(1)
    noise = torch.empty(len(maps), NUM_DRAWS, weights.shape[1])
    noise.exponential_(generator=torch.Generator().manual_seed(0))
    ratios = model.mask_ratio, model.throw_ratio
    flags = torch.stack([partition_tokens(weights, draw, *ratios).flags()
                         for draw in noise.unbind(dim=1)], 1)
    masks = torch.from_numpy(lesions)
    hidden = masking_of_lesion(flags, lesion_patches(masks, maps.shape[1:]))
    first = noise[:, 0]
    return Masking(
        pictures, lesions, maps, partition_tokens(weights, first, *ratios),
        partition_tokens(torch.ones_like(weights), first, *ratios),
        hidden['masked'].mean().item(), hidden['masked_chance'].mean().item(),
        attention_on_lesion(maps, masks)['pointing'].mean().item())


def look_at_lesions(runner: Runner, folder: Path,
                    units: PictureUnits) -> tuple[Masking, np.ndarray]:
    """Let the pre-trained model look at scans that it has not seen.

    Gives the maskings of all scans with a lesion, and the first scans with
    their masked patches reconstructed, (``NUM_SHOWN``, H, W, 3).
    """
    dataset = DATASETS.build(dict(runner.cfg.train_dataloader.dataset,
                                  data_root=str(folder), split='val'))
    sources = [
        source for source in list_sources(dataset)
        if source.dataset.get_data_info(source.index).get('lesion_path')]
    pipeline = next(hook.pipeline for hook in runner.hooks
                    if isinstance(hook, AttentionMaskHook))
    panel = load_panel(sources, range(len(sources)), pipeline, True)
    model = runner.model
    with evaluating(model), at_iteration(runner, 0):
        look = look_at(model, panel)
        scans = mask_images(model, units.to_pictures(look.images),
                            np.stack(panel.lesions), look.maps)
        shown = TokenPartition(*(ids[:NUM_SHOWN]
                                 for ids in scans.by_attention))
        with torch.no_grad():
            filled = model.reconstruct(look.images[:NUM_SHOWN], shown)
    return scans, units.to_pictures(filled)


@torch.no_grad()
def look_at_retina(model: torch.nn.Module) -> Masking:
    """Let the model look at a real retina with lesions drawn into it."""
    square = skimage.data.retina()[RETINA_SQUARE, RETINA_SQUARE]
    retina = cv2.resize(
        square, (RETINA_SIDE, RETINA_SIDE), interpolation=cv2.INTER_AREA)
    tiles = retina.reshape(RETINA_TILES, IMAGE_SIZE, RETINA_TILES, IMAGE_SIZE,
                           3).swapaxes(1, 2)
    drawn = [
        draw_lesions_on(tile, [LESION_CLASSES[index % len(LESION_CLASSES)]],
                        (0, index), LESION_SIZE)
        for index, tile in enumerate(tiles.reshape(-1, *tiles.shape[2:]))]
    pictures = np.stack([picture for picture, _ in drawn])
    inputs = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    with evaluating(model):
        normalized = model.data_preprocessor(dict(inputs=inputs))['inputs']
        maps = model.attention_maps(normalized)
    return mask_images(model, pictures, np.stack([mask for _, mask in drawn]),
                       maps)


def masking_columns(masking: Masking, whole: bool = False) -> list[Column]:
    """Draw image, attention, and the masking by chance and by attention."""

    def outline(pictures: np.ndarray) -> list[np.ndarray]:
        return join(outline_lesions(pictures, list(masking.lesions)))

    def join(pictures: np.ndarray) -> list[np.ndarray]:
        if not whole:
            return list(pictures)
        side = RETINA_TILES
        rows = pictures.reshape(side, side, *pictures.shape[1:])
        return [rows.swapaxes(1, 2).reshape(RETINA_SIDE, RETINA_SIDE, 3)]

    def cover(partition: TokenPartition) -> list[np.ndarray]:
        flags = partition.flags().numpy().reshape(masking.maps.shape)
        return outline(cover_partition(masking.pictures, flags))

    return [Column('Image', 'lesions outlined', outline(masking.pictures)),
            Column('Attention', 'of the class token, yellow is most',
                   join(overlay_map(masking.pictures, masking.maps))),
            Column('Masked at random', 'dark: masked; hatched: thrown away',
                   cover(masking.by_chance)),
            Column('Masked by attention', 'as MSMAE does; as many patches',
                   cover(masking.by_attention))]


def first_of(columns: list[Column], number: int) -> list[Column]:
    return [Column(column.title, column.subtitle, column.pictures[:number])
            for column in columns]


def run(stage: Stage) -> runs.PartResult:
    """Pre-train on drawn lesions, look at the masking, fine-tune."""
    part = runs.Part(stage, 'msmae')
    lesions = part.data('lesion_phantoms')
    num_train, num_val = (32, 8) if stage.smoke else (768, 240)
    with stage.step('Data') as step:
        write_lesion_dataset(
            lesions, num_train, num_val, IMAGE_SIZE, normal=True,
            lesion_size=LESION_SIZE, align=LESION_SIZE)
        step.result = (f'{num_train} + {num_val} drawn scans of 4 classes')

    with stage.step('Pre-training') as step, runs.one_thread():
        pretraining = part.train(step, 'pretraining', PRETRAINING,
                                 'pre-train with masks that follow attention')
        losses = read_scalars(pretraining.log_dir, 'loss_rec')
        step.result = (f'reconstruction loss {losses[0][1]:.2f} -> '
                       f'{losses[-1][1]:.2f} in {pretraining.iter} iterations')
    seconds = step.seconds
    part.add_command(
        'look at attention and masking', 'visualizations/visualize_attention',
        PRETRAINING, runs.last_checkpoint(part.folder / 'pretraining'),
        '--out', 'attention.png')

    with stage.step('Masking') as step, runs.one_thread():
        model = pretraining.model
        units = PictureUnits.from_preprocessor(model.data_preprocessor)
        scans, filled = look_at_lesions(pretraining, lesions, units)
        retina = look_at_retina(model)
        step.result = (f'lesions hidden {scans.masked:.0%} of the time, by '
                       f'chance {scans.masked_chance:.0%}')

    with stage.step('Classifier') as step, runs.one_thread():
        fine_tuning = part.train(step, 'fine_tuning', FINE_TUNING, 'fine-tune')
        part.test_command(FINE_TUNING, fine_tuning)
        accuracy = fine_tuning.message_hub.log_scalars[
            'val/disease/top1'].current()
        step.result = (f'{accuracy:.0%} of {num_val} other scans right, '
                       'chance 25 %')

    sections = [describe_pretraining(pretraining, scans, filled, seconds),
                describe_retina(retina),
                describe_classifier(fine_tuning, accuracy, step.seconds)]
    part.save_pictures(sections, 'masking', 'msmae_losses', 'masking_retina',
                       'classifier_loss')
    return runs.PartResult(sections, draw_overview(scans, retina),
                           part.commands)


def draw_overview(scans: Masking, retina: Masking) -> np.ndarray:
    """Draw some scans and the retina in one picture."""
    top = draw_grid(
        first_of(masking_columns(scans), 2),
        heading='Masking of drawn scans that the network has not seen',
        min_side=RETINA_SIDE)
    bottom = draw_grid(
        masking_columns(retina, whole=True),
        heading='The same network on a real retina, with lesions drawn in')
    return stack([top, bottom])


def describe_pretraining(runner: Runner, scans: Masking, filled: np.ndarray,
                         seconds: float) -> Section:
    model = runner.model
    columns = [
        *first_of(masking_columns(scans), NUM_SHOWN),
        Column('Filled in', 'what was masked by attention, reconstructed',
               list(filled))]
    losses = {
        title: read_scalars(runner.log_dir, name)
        for title, name in (('reconstruction', 'loss_rec'),
                            ('cross-entropy of the class', 'cross_entropy'))}
    attention = next(
        hook for hook in runner.hooks if isinstance(hook, AttentionMaskHook))
    begin = attention.begin * len(runner.train_dataloader)
    return Section(
        'MSMAE: masking what the class depends on',
        ['Each drawn scan has one small lesion, or none, and its kind is '
         'the class; everything else is drawn alike for all classes. A '
         'masked autoencoder with a class head is trained on them. After '
         f'{begin} iterations with random masks, the masks follow what '
         'the class token looks at: patches with much attention are '
         f'masked first ({model.mask_ratio:.0%} of all), then some are '
         f'thrown away ({model.throw_ratio:.0%}), and the rest is seen.',
         'Nobody tells the network where lesions are: their outlines are '
         'used for the pictures and numbers alone.'],
        [Figure(
             draw_grid(columns, min_side=CELL),
             'Scans that were not trained on. An outline on a dark patch '
             'says that the lesion is hidden.'),
         Figure(
             draw_curves(losses, window=10),
             f'Losses in pre-training. From iteration {begin} on the masks '
             'hide what tells the class, so both tasks get harder.')],
        [('Lesions masked', f'{scans.masked:.0%} of the time; chance: '
          f'{scans.masked_chance:.0%}'),
         ('Attention is largest on the lesion',
          f'in {scans.pointing:.0%} of {len(scans.maps)} scans; chance: '
          f'{1 / scans.maps[0].numel():.1%}'),
         ('Iterations', f'{runner.iter} of '
          f'{runner.train_dataloader.batch_size} scans')],
        seconds)


def describe_retina(retina: Masking) -> Section:
    tiles = len(retina.maps)
    return Section(
        'The same network on a real retina',
        ['A photograph of a retina, which the network has never seen anything '
         f'like, is cut into {tiles} tiles of the size that it knows; one '
         'lesion is drawn into each, and each is masked by its own map.'],
        [Figure(
             draw_grid(masking_columns(retina, whole=True)),
             'Besides the drawn lesions it looks at what it takes for '
             'one: the fovea (dark, in the middle), the optic disc '
             '(bright, left) and vessels. A tile without anything that '
             'stands out has attention all over.')],
        [('Lesions masked', f'{retina.masked:.0%} of the time; chance: '
          f'{retina.masked_chance:.0%}'),
         ('Attention is largest on the lesion',
          f'in {retina.pointing:.0%} of {tiles} tiles; chance: '
          f'{1 / retina.maps[0].numel():.1%}')])


def describe_classifier(runner: Runner, accuracy: float,
                        seconds: float) -> Section:
    model = runner.model
    shown = 1 - model.mask_ratio - model.throw_ratio
    return Section(
        'A classifier from these weights',
        [f'Fine-tuning sees {shown:.0%} of the patches, drawn at random, '
         'and saves most of the time; testing sees all of them. Masking '
         'by attention, which the method offers here, too, would hide '
         'the one patch that tells the class of these scans.'],
        [Figure(
             draw_curves(
                 {'cross-entropy of the class':
                  read_scalars(runner.log_dir, 'loss')},
                 window=10),
             'Loss in fine-tuning. It stays high: the lesion is in '
             f'{shown:.0%} of the samples only.')],
        [('Weights', runs.find_in_log(runner, 'Load check of')),
         ('Right', f'{accuracy:.1%} of {len(runner.val_dataloader.dataset)} '
          'scans that were not trained on; chance: 25 %')],
        seconds)
