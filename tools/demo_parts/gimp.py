"""GiMP in the demo: drawn patients, three stages, where the model looks."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.runner import Runner

from demo_parts.runs import Part, PartResult, find_in_log, one_thread
from demo_parts.stage import Stage
from mmmedmask.apis.slide_attention import find_evidence
from mmmedmask.engine.preserved_state import evaluating
from mmmedmask.phantoms.slide_omic_cohort import (
    COHORT_CLASSES,
    read_cohort_truth,
    write_slide_omic_cohort,
)
from mmmedmask.phantoms.slide_omic_drawing import PATCH_SIZE
from mmmedmask.visualization.curves import draw_curves, read_scalars
from mmmedmask.visualization.grid import stack
from mmmedmask.visualization.html_report import Figure, Section
from mmmedmask.visualization.slide_heatmap import (
    PatchMap,
    PatchPlaces,
    draw_slide_heatmaps,
)

GENES = 'gimp/demo/groupmsa-micro_1xb16-12e_cohort-phantoms.py'
PRETRAINING = ('gimp/demo/gimp_groupmsa-nystrom-micro_1xb16-16e-pretrain_'
               'cohort-phantoms.py')
SLIDES = ('gimp/demo/gimp_slides-only_nystrom-micro_1xb8-6e-finetune_'
          'cohort-phantoms.py')
BOTH = ('gimp/demo/gimp_groupmsa-nystrom-micro_1xb8-6e-finetune_'
        'cohort-phantoms.py')

NUM_GENES = 480
NUM_SHOWN, NUM_IN_OVERVIEW = 4, 2
MAP_SIDE = 280  # Longest side of a heatmap in pixels.


class Sight(NamedTuple):
    """Where a model looks in slides that it has not seen.

    ``attention`` and ``patches`` are the shares of both in the planted region,
    the means over the slides; ``heatmaps`` one picture per slide.
    """

    heatmaps: list[np.ndarray]
    attention: float
    patches: float


def look_at_slides(model, dataset, root: Path) -> Sight:
    """Compare a model's attention with what was planted."""
    truth = read_cohort_truth(root)
    classes = dataset.metainfo['classes']
    heatmaps, inside, shares = [], [], []
    with evaluating(model):
        for index in range(len(dataset)):
            sample = dataset[index]
            shown = len(heatmaps) < NUM_SHOWN
            evidence = find_evidence(
                model, sample['inputs'], classes, per_patch=shown)
            info = sample['data_samples']
            region = truth.region(info.slide_ids[0], info.num_patches)
            inside.append(evidence.attention[0][region].sum())
            shares.append(region.mean())
            if shown:
                heatmaps.append(
                    draw_slide(evidence, sample, region,
                               truth.distractors[info.slide_ids[0]], classes))
    return Sight(heatmaps, float(np.mean(inside)), float(np.mean(shares)))


def draw_slide(evidence, sample: dict, region: np.ndarray,
               distractor: list[int], classes: tuple[str, ...]) -> np.ndarray:
    """Draw what was planted beside what the model makes of it."""
    coords = sample['inputs']['coords'].numpy()
    info = sample['data_samples']
    label = classes[int(info.gt_label)]
    planted = np.full(len(region), 0.5)
    planted[region] = 1.0
    planted[distractor] = 0.0
    predicted = int(evidence.bag_scores.argmax())
    size = tuple(int(length) + PATCH_SIZE for length in coords.max(axis=0))
    return draw_slide_heatmaps(
        None, [PatchMap('Planted', planted, 'minmax'),
               PatchMap('Attention', evidence.attention[0], 'minmax'),
               PatchMap(f'{classes[1]}, patch by patch',
                        evidence.patch_scores[1], 'probability')],
        PatchPlaces(coords, PATCH_SIZE, size), heading=f'{info.case_id} is of '
        f'{label}, the slide alone says {classes[predicted]} '
        f'({evidence.bag_scores[predicted]:.0%})', max_side=MAP_SIDE)


def run(stage: Stage) -> PartResult:
    """Train on genes, pre-train, fine-tune on slides and on both."""
    part = Part(stage, 'gimp')
    cohort = part.data('cohort_phantoms')
    num_cases = 20 if stage.smoke else 200
    scores: dict[str, dict] = {}

    def train(title: str, name: str, config: str,
              comment: str) -> tuple[Runner, float]:
        with stage.step(title) as step, one_thread():
            runner = part.train(step, name, config, comment)
            if name == 'pretraining':
                losses = read_scalars(runner.log_dir, 'loss_rec')
                step.result = (
                    f'masked patches: error {losses[0][1]:.2f} -> '
                    f'{losses[-1][1]:.2f} in {runner.iter} iterations')
            else:
                scores[name] = runner.test()
                step.result = (f'{scores[name]["slide/accuracy"]:.0%} of '
                               f'{len(runner.test_dataloader.dataset)} other '
                               'patients right, chance 50 %')
        return runner, step.seconds

    with stage.step('Data') as step:
        write_slide_omic_cohort(
            cohort, num_cases, num_genes=NUM_GENES,
            gene_signal=0.9, region_share=0.08, slide_signal=6.0,
            smoothness=0.8, split_shares=(0.6, 0.1, 0.3))
        step.result = (f'{num_cases} drawn patients with a slide and '
                       f'{NUM_GENES} genes')

    train('Genes', 'genes', GENES, 'train the gene encoder')
    pretraining, seconds = train('Pre-training', 'pretraining', PRETRAINING,
                                 'pre-train')
    slides, slides_seconds = train('Slides', 'slides', SLIDES,
                                   'fine-tune on slides alone')
    both, both_seconds = train('Slides + genes', 'slides_and_genes', BOTH,
                               'fine-tune on slides and genes')
    part.test_command(BOTH, both)

    sight = look_at_slides(slides.model, slides.test_dataloader.dataset,
                           cohort)
    sections = [
        describe_pretraining(pretraining, seconds),
        describe_patients(both, scores, sight, slides_seconds + both_seconds)]
    part.save_pictures(sections, 'gimp_losses', 'gimp_heatmaps')
    return PartResult(sections, stack(sight.heatmaps[:NUM_IN_OVERVIEW]),
                      part.commands)


def error_of_the_mean(dataset) -> float:
    """Error of predicting the mean of all patches, over some samples."""
    patches = torch.cat([dataset[index]['inputs']['patches']
                         for index in range(min(len(dataset), 32))])
    return (patches - patches.mean(dim=0)).abs().mean().item()


def describe_pretraining(runner: Runner, seconds: float) -> Section:
    curves = {
        'error of masked patches': read_scalars(runner.log_dir, 'loss_rec'),
        'share of active triplets': read_scalars(runner.log_dir, 'tri_active')}
    run = runner.cfg.train_dataloader.dataset.pipeline[1]['length']
    floor = error_of_the_mean(runner.train_dataloader.dataset)
    return Section(
        'GiMP: masked patches, and genes that tell patients apart',
        ['A drawn patient has a slide, given as a bag of features of its '
         f'patches, and {NUM_GENES} genes. The class is planted in a compact '
         'region of the slide and in 20 genes of four pathways. First a gene '
         'encoder learns the class from genes alone and is frozen. Then the '
         'network that sums up a slide is pre-trained: it sees a run of '
         f'{run} patches, of which half are masked, and fills in their '
         'features; and the vectors of slide and genes together are to lie '
         'close for patients of one class, far for those of two (triplets).'],
        [Figure(
             draw_curves(curves, window=4,
                         references={'error of masked patches': {
                             'mean patch': floor}}),
             'Neighbouring patches are alike, so that masked ones can be '
             'filled in to some degree; the dashed line is the error of '
             'filling in the mean of all patches. Triplets without a '
             'gradient are not active: the fewer, the more patients are '
             'told apart already.')],
        [('Gene encoder', find_in_log(runner, 'Load check of')),
         ('Iterations', f'{runner.iter} of '
          f'{runner.cfg.train_dataloader.batch_size} patients')],
        seconds)


def describe_patients(runner: Runner, scores: Mapping[str, Mapping],
                      sight: Sight, seconds: float) -> Section:
    number = len(runner.test_dataloader.dataset)
    rows = []
    for title, name in (('Genes alone', 'genes'), ('Slides alone', 'slides'),
                        ('Slides and genes', 'slides_and_genes')):
        values = scores[name]
        rows.append((f'{title}: right', f'{values["slide/accuracy"]:.0%} of '
                     f'{number} patients that were not trained on (95 % '
                     f'interval {values["slide/accuracy_low"]:.0%} to '
                     f'{values["slide/accuracy_high"]:.0%}); AUC '
                     f'{values["slide/auc"]:.2f}'))
    return Section(
        'Patients classified by slides and genes',
        ['The pre-trained network goes on into a classifier of whole '
         'bags, with genes and without, and a hook compares its weights '
         'with the file before training starts.',
         'Where it looks can be compared with what was planted. Nobody '
         'tells it where the region is: only the class of the patient is '
         'known in training.'],
        [Figure(
             stack(sight.heatmaps),
             'Slides that were not trained on. Planted: the bright region '
             'tells the class; the black one stands out as much, but is '
             'the same in both classes. Attention: of the class token. '
             'Right: what the network says of each patch alone, red for '
             f'{COHORT_CLASSES[1]}, blue for {COHORT_CLASSES[0]}.')],
        [('Weights', find_in_log(runner, 'Load check of')),
         *rows,
         ('Attention in the planted region',
          f'{sight.attention:.0%}, on {sight.patches:.0%} of the patches')],
        seconds)
