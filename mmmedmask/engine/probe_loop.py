"""The test of a pre-training: what can be read off the frozen encoder?"""

from collections.abc import Sequence

from mmengine.runner import BaseLoop

from mmmedmask.engine.frozen_features import encoder_of
from mmmedmask.engine.preserved_state import unwrap
from mmmedmask.engine.probing import (
    build_probes,
    check_probe_options,
    score_encoder,
    trained_splits,
)
from mmmedmask.engine.rank_errors import on_all_ranks
from mmmedmask.registry import LOOPS
from mmmedmask.util.input_units import input_units


@LOOPS.register_module()
class ProbeLoop(BaseLoop):
    """Probe the encoder instead of a test.

    With it ``tools/test.py`` scores the checkpoint of a pre-training as
    ``ProbeHook`` does: ``probe/gray/knn``, ``probe/pixels/dense_all``. A
    config gives ``test_dataloader=dict()`` and ``test_evaluator=dict()``,
    which MMEngine wants beside a test loop: the images are the probes' own.

    Args are as of :func:`build_probes`.

    Raises:
        ValueError: If there is neither ``data`` nor ``dense``, an option
            that they cannot use, or a loader or evaluator that nothing would
            use.
    """

    def __init__(self, runner, dataloader: dict, evaluator: dict,
                 data: str | None = None, dense: str | None = None,
                 size: int | None = None, colors: Sequence[str] = ('rgb', ),
                 few: Sequence[int | None] = (1, 5, 20, None),
                 max_images: int | None = None,
                 split_folder: str | None = None,
                 dense_size: int | None = None, seed: int = 0) -> None:
        if data is None and dense is None:
            raise ValueError('ProbeLoop needs data or dense, got neither')
        if dataloader or evaluator:
            raise ValueError(
                'ProbeLoop reads its own images: set test_dataloader=dict() '
                f'and test_evaluator=dict(), got {dataloader} and {evaluator}')
        check_probe_options(colors, size, few, max_images, dense_size, seed)
        # The logger asks for the length.
        super().__init__(runner, dataloader=[])
        self._probes = dict(
            data=data, dense=dense, colors=colors, size=size, few=few,
            max_images=max_images, split_folder=split_folder,
            dense_size=dense_size, seed=seed)

    def run(self) -> dict[str, float]:
        """Score the encoder in [0, 1], ``probe/gray/knn`` and so on.

        Beside each stands what the colour alone scores, as
        ``probe/gray/knn/colour``.
        """
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        model = unwrap(self.runner.model)
        probes = on_all_ranks(lambda: build_probes(
            **self._probes, trained=trained_splits(self.runner.cfg)))
        units = input_units(model.data_preprocessor, self.runner.cfg)
        scores = score_encoder(encoder_of(model), units, probes)
        metrics = {f'probe/{name}': score.value
                   for name, score in scores.items()} | {
            f'probe/{prefix}/{score.name}/{probe.floor_name}': score.value
            for prefix, probe in probes.items()
            for score in probe.plain_floor()}
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics
