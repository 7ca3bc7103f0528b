"""Fit the scale of the genes to the training cases, once, and guard it."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import BaseLoop, Runner

from mmmedmask.datasets.expression.gene_names import names_hash
from mmmedmask.datasets.slides.slide_omic_dataset import SlideOmicDataset
from mmmedmask.engine.preserved_state import unwrap
from mmmedmask.engine.wrapped_datasets import datasets_of
from mmmedmask.functional.gene_scaling import CONSTANT_BELOW
from mmmedmask.models.slide_omic import SlideOmicDataPreprocessor
from mmmedmask.registry import HOOKS
from mmmedmask.util.atomic_files import write_text
from mmmedmask.util.checks import check_positive

GENE_LIST_NAME = 'genes.txt'


@HOOKS.register_module()
class GeneStatsHook(Hook):
    """Give ``SlideOmicDataPreprocessor`` the scale of the genes.

    Stage 0 fits mean and standard deviation of every gene to the training
    set and to nothing else, before the first step. A run that resumes, or
    that gets a checkpoint (``load_from``, or ``init_cfg`` of the
    preprocessor) with a scale, keeps that one; the log says which. Before
    training, validation and test, data sets whose genes, their order or
    their unit are not those of the scale are refused.

    The genes in their order are written to ``genes.txt`` in the work folder,
    which other data sets take as ``gene_list``. The scale, the number of its
    cases and a hash of their names are in the checkpoint.

    Args:
        clip: Largest absolute value of a scaled gene.

    Raises:
        ValueError: In a run if the model has another preprocessor, several
            data sets of the training have genes, a set does not fit the
            scale, or a resumed checkpoint has none.
    """

    # Before EMAHook, which copies the model.
    priority = 'VERY_HIGH'

    def __init__(self, clip: float = 10.0) -> None:
        self.clip = check_positive('clip', clip)
        self._fitted_hash: str | None = None

    def before_run(self, runner: Runner) -> None:
        """Fit, unless a checkpoint will be loaded."""
        self._fitted_hash = None
        training = isinstance(runner._train_loop, BaseLoop)
        if not training or runner._resume or runner._load_from:
            return
        preprocessor = _preprocessor(runner)
        preprocessor.init_weights()
        if not preprocessor.gene_scale.is_set:
            self._fit(runner, preprocessor)

    def before_train(self, runner: Runner) -> None:
        """Tell which scale there is, after what was loaded."""
        preprocessor = _preprocessor(runner)
        dataset = training_set(runner)
        if dataset is None:
            if not preprocessor.gene_scale.is_set and getattr(
                    unwrap(runner.model), 'gene_encoder', None) is not None:
                kind = type(runner.train_dataloader.dataset).__name__
                runner.logger.warning(
                    'GeneStatsHook fits no scale, though the model encodes '
                    f'genes: the training set, a {kind}, neither is nor wraps '
                    'a SlideOmicDataset with expression=dict(...)')
            return
        if not preprocessor.gene_scale.is_set:
            if runner.iter > 0:
                raise ValueError(
                    'the resumed checkpoint has no scale of genes: it was '
                    'trained without genes, or without GeneStatsHook')
            self._fit(runner, preprocessor)
        state = preprocessor.gene_scale.state()
        _set_in_copies(runner, state)
        if state['cases_hash'] != self._fitted_hash:
            self._log_kept(runner, dataset, state)
        self._check(runner, runner.train_dataloader.dataset, 'training set')
        if runner.val_loop is not None:
            self.before_val(runner)
        if self._fitted_hash is not None and is_main_process():
            write_text(Path(runner.work_dir) / GENE_LIST_NAME,
                       '\n'.join(state['gene_ids']) + '\n')

    def before_val(self, runner: Runner) -> None:
        self._check(runner, runner.val_dataloader.dataset, 'validation set')

    def before_test(self, runner: Runner) -> None:
        self._check(runner, runner.test_dataloader.dataset, 'test set')

    def _fit(self, runner: Runner,
             preprocessor: SlideOmicDataPreprocessor) -> None:
        dataset = training_set(runner)
        if dataset is None:
            return
        state = dataset.fit_gene_scale(self.clip)
        preprocessor.gene_scale.set(state)
        self._fitted_hash = state['cases_hash']
        constant = int((state['std'] < CONSTANT_BELOW).sum())
        runner.logger.info(
            f'Scale of genes: fitted to {state["num_cases"]} training cases '
            f'(hash {state["cases_hash"]}), {len(state["gene_ids"])} genes '
            f'of which {constant} are constant, unit {state["unit"]}.')

    @staticmethod
    def _log_kept(runner: Runner, dataset: SlideOmicDataset,
                  state: dict) -> None:
        scale = (f'Scale of genes: kept that of the checkpoint, fitted to '
                 f'{state["num_cases"]} cases (hash {state["cases_hash"]}), '
                 f'{len(state["gene_ids"])} genes, unit {state["unit"]}.')
        cases = dataset.gene_cases()
        if names_hash(cases) == state['cases_hash']:
            runner.logger.info(f'{scale} They are this training set.')
        else:
            runner.logger.warning(
                f'{scale} They are not the {len(cases)} cases of this '
                'training set: if cases of the test are among them, its '
                'scores are too good.')

    def _check(self, runner: Runner, dataset: object, name: str) -> None:
        scale = _preprocessor(runner).gene_scale
        parts = _gene_sets(dataset)
        if scale.is_set or parts:
            scale.check_model(unwrap(runner.model), f'the {name}')
        for part in parts:
            table = part.expression
            scale.check_genes(table.gene_ids, f'the {name} ({part.ann_file})')
            scale.check_unit(table.unit, table.log2_offset, table.source)


def _preprocessor(runner: Runner) -> SlideOmicDataPreprocessor:
    preprocessor = getattr(unwrap(runner.model), 'data_preprocessor', None)
    if not isinstance(preprocessor, SlideOmicDataPreprocessor):
        raise ValueError(
            'GeneStatsHook needs a model with the data_preprocessor '
            'mmmedmask.SlideOmicDataPreprocessor, got '
            f'{type(preprocessor).__name__}')
    return preprocessor


def _set_in_copies(runner: Runner, state: dict) -> None:
    """Give copies of the model that have no scale this one.

    EMAHook copies it before anything is loaded, and pairs buffers by place.
    """
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            scale = hook.ema_model.module.data_preprocessor.gene_scale
            if not scale.is_set:
                scale.set(state)


def _gene_sets(dataset: object) -> list[SlideOmicDataset]:
    """Data sets with genes among a data set and those that it wraps."""
    return [part for part in datasets_of(dataset)
            if isinstance(part, SlideOmicDataset)
            and part.expression is not None]


def training_set(runner: Runner) -> SlideOmicDataset | None:
    """The data set with genes that training reads; None without genes."""
    datasets = _gene_sets(runner.train_dataloader.dataset)
    if len(datasets) > 1:
        raise ValueError(
            f'{len(datasets)} data sets of the training have genes, which can '
            'be fitted to one alone: put them into one cohort csv and give '
            'the paths of their tables as one list')
    return datasets[0] if datasets else None
