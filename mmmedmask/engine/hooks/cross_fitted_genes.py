"""Give GiMP's triplets vectors of genes that no label of the patient made."""

import hashlib
import json
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmmedmask.engine.gene_matrix import read_genes
from mmmedmask.engine.hooks.gene_stats import training_set
from mmmedmask.engine.preserved_state import unwrap
from mmmedmask.engine.rank_errors import gather_results
from mmmedmask.models.gimp import GiMP
from mmmedmask.models.gimp.cross_fitting import cross_fit_vectors
from mmmedmask.registry import HOOKS
from mmmedmask.util.atomic_files import atomic_path
from mmmedmask.util.checks import check_integer, check_positive, check_range
from mmmedmask.util.nested import nested_dicts

FILE_NAME = 'cross_fitted_genes_{}.pth'


@HOOKS.register_module()
class CrossFittedGenesHook(Hook):
    """Cross-fit the genes' vectors of the training patients.

    Before training the patients are dealt to folds, by class. For each fold a
    gene encoder as the model's, from new weights, learns the class of the
    other patients, and encodes those of the fold. In training these vectors
    stand for CLS_ge; the model's own encoder, of the first stage, goes on to
    fine-tuning as it is and encodes all others. Genes are scaled as the
    model does; their scale knows all training patients, but no label.

    The vectors are in ``cross_fitted_genes_DIGEST.pth`` in the work folder,
    the digest being that of what they are made of, so that a run that resumes,
    or repeats, uses them again if nothing has changed. The main process
    computes them, in ``num_folds`` times the first stage, after which
    ``max_epochs``, ``batch_size`` and AdamW's ``base_lr`` and ``weight_decay``
    of each encoder are.

    Raises:
        ValueError: If an argument is outside its range; before training if
            the model is not a GiMP with a frozen gene encoder, its config is
            not at hand, or a class has fewer patients than there are folds.
    """

    # After GeneStatsHook, which has the scale.
    priority = 'HIGH'

    def __init__(self, num_folds: int = 5, max_epochs: int = 40,
                 batch_size: int = 16, base_lr: float = 1e-3,
                 weight_decay: float = 0.01) -> None:
        self.num_folds = check_integer('num_folds', num_folds, 2)
        self.fitting = dict(
            max_epochs=check_integer('max_epochs', max_epochs),
            batch_size=check_integer('batch_size', batch_size),
            base_lr=check_positive('base_lr', base_lr),
            weight_decay=check_range('weight_decay', weight_decay, 0))

    def before_train(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        if not isinstance(model, GiMP) or model.gene_encoder is None \
                or not model.freeze_gene_encoder:
            raise ValueError('CrossFittedGenesHook needs mmmedmask.GiMP with '
                             'a gene_encoder that is frozen: take it out by '
                             'default_hooks=dict(cross_fitted_genes=None)')
        encoder = (runner.cfg.get('model') or {}).get('gene_encoder')
        if not isinstance(encoder, dict):
            raise ValueError('CrossFittedGenesHook makes gene encoders from '
                             'model.gene_encoder of the config of the run, '
                             f'which is {encoder!r}')
        encoder = {key: value for key, value in encoder.items()
                   if key != 'init_cfg'}
        dataset = training_set(runner)
        if dataset is None:
            raise ValueError('CrossFittedGenesHook: no data set of the '
                             'training has genes')
        cases, genes, labels = read_genes(
            dataset, model.data_preprocessor.gene_scale)
        digest = hashlib.sha256(json.dumps(
            [encoder, self.num_folds, self.fitting, runner.seed, cases,
             labels.tolist()], default=str).encode()
            + genes.cpu().numpy().tobytes()
            + _contents(encoder)).hexdigest()
        file = Path(runner.work_dir) / FILE_NAME.format(digest[:16])

        def fit() -> str:
            if is_main_process() and not _is_of(file, digest):
                runner.logger.info(f'Cross-fits the genes of {len(cases)} '
                                   f'patients over {self.num_folds} folds.')
                vectors = cross_fit_vectors(
                    encoder, genes, labels.to(genes.device), self.num_folds,
                    runner.seed, **self.fitting)
                with atomic_path(file) as temporary:
                    torch.save(dict(digest=digest, cases=cases,
                                    vectors=vectors.cpu()), temporary)
            return str(file)

        # The others wait, and take the same file.
        stored = torch.load(gather_results(fit)[0],
                            map_location=genes.device, weights_only=True)
        model.gene_cache.give(dict(zip(
            stored['cases'], stored['vectors'], strict=True)))


def _contents(encoder: dict) -> bytes:
    """Digests of the files of genes that an encoder's config names."""
    return b''.join(
        hashlib.sha256(Path(node[key]).read_bytes()).digest()
        for node in nested_dicts(encoder) for key in ('gene_list', 'gene_sets')
        if isinstance(node.get(key), str))


def _is_of(file: Path, digest: str) -> bool:
    if not file.is_file():
        return False
    try:
        stored = torch.load(file, map_location='cpu', weights_only=True)
        return stored['digest'] == digest
    # A damaged file fails in many ways, and counts as none.
    except Exception:
        return False
