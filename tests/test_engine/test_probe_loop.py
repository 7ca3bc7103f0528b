"""The test of a pre-training: probes of its checkpoint."""

import pytest
from mmengine.runner import Runner
from refusals import refuses
from shipped_configs import load

from mmmedmask.engine.probe_loop import ProbeLoop
from mmmedmask.engine.probing import build_probes, score_encoder
from mmmedmask.shrinking.shrink import shrink_config

NAME = 'cmim_resnet18-half_1xb32-adamw-20e_crc5'


def test_scores_are_those_of_the_probes(tmp_path):
    cfg = shrink_config(load(NAME), tmp_path)
    cfg.test_cfg.colors = ['gray']
    cfg.test_cfg.dense_size = 24
    runner = Runner.from_cfg(cfg)
    metrics = runner.test()
    model = runner.model
    options = {key: value for key, value in cfg.test_cfg.items()
               if key != 'type'}
    probes = build_probes(**options)
    scores = score_encoder(model.backbone, model.data_preprocessor, probes)
    floors = {f'{prefix}/{score.name}': score
              for prefix, probe in probes.items()
              for score in probe.plain_floor()}
    names = {'gray/knn', 'gray/logistic',
             *(f'pixels/dense_{count}' for count in (1, 5, 20, 'all'))}
    assert set(scores) == set(floors) == names
    assert metrics == {
        **{f'probe/{name}': scores[name].value for name in names},
        **{f'probe/{name}/colour': floors[name].value for name in names}}
    # Recipes read them from here.
    logged = next((tmp_path / 'run').glob('*/*.json')).read_text('utf-8')
    assert 'probe/gray/logistic' in logged
    model.backbone = None
    with pytest.raises(ValueError, match='neither a backbone nor'):
        runner.test()


test_what_nothing_would_use_is_refused = refuses(
    lambda **options: ProbeLoop(runner=None, **options), [
    (dict(dataloader={}, evaluator={}), 'neither'),
    (dict(dataloader={}, evaluator={}, data='x', size=-1), 'size .* got -1'),
    (dict(dataloader={}, evaluator={}, data='x', colors=['sepia']), 'sepia'),
    (dict(dataloader=dict(batch_size=2), evaluator={}, data='x'),
     'batch_size'),
    (dict(dataloader={}, evaluator=dict(type='Accuracy'), data='x'),
     'Accuracy')])
