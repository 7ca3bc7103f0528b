"""How well predicted risks order patients by their survival."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmmedmask.evaluation.base_metric import SampleMetric, log_warning
from mmmedmask.evaluation.classification_scores import percentile_interval
from mmmedmask.evaluation.patient_tables import (
    RISKS_FILE,
    PatientRisks,
    average_risks,
    hidden_file,
    hidden_results,
    patient_result,
    warn_repeated,
    write_risks,
)
from mmmedmask.evaluation.survival_scores import (
    bootstrap_concordance,
    concordance,
    known_pairs,
)
from mmmedmask.registry import METRICS
from mmmedmask.util.checks import check_choice, check_integer


@METRICS.register_module()
class SurvivalConcordance(SampleMetric):
    """Harrell's C index with a 95 % interval by patient.

    ``c_index`` is the share of pairs in which the patient who died first had
    the higher risk, of all pairs where that patient is known; 0.5 is chance.
    Its bounds ``c_index_low`` and ``c_index_high`` are the 2.5 and 97.5
    percentiles of bootstrap resamples of patients, the same draws at every
    evaluation.
    ``events`` is the number of deaths observed. If a patient has several
    samples, their risks are averaged. Without a pair to compare the index is
    NaN, with a warning.

    At every evaluation ``survival.csv`` replaces that of the last one, see
    :func:`~mmmedmask.evaluation.patient_tables.write_risks`.

    ``slides_hidden/c_index`` and ``genes_hidden/c_index`` are those of
    patients who have both, as if they lacked the one or the other; see
    :class:`~mmmedmask.evaluation.SlideClassification`.

    Samples need ``pred_risk`` (more is worse), ``survival_months``,
    ``censorship`` (1 = the death was not observed), ``case_id`` and
    ``slide_ids``; ``modalities`` is kept, if there is one.

    Args:
        num_bootstrap: Number of resamples; 0 for no interval.
        out_dir: See :class:`~mmmedmask.evaluation.base_metric.SampleMetric`.
    """

    default_prefix = 'survival'

    def __init__(self, num_bootstrap: int = 1000, seed: int = 0,
                 out_dir: str | None = None, collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(out_dir, collect_device, prefix)
        self.num_bootstrap = check_integer('num_bootstrap', num_bootstrap, 0)
        self.seed = check_integer('seed', seed, 0)

    def process(self, data_batch, data_samples: Sequence[Mapping]) -> None:
        needed = ('pred_risk', 'survival_months', 'censorship')
        for sample in data_samples:
            result = patient_result(sample, needed, _risk)
            censored = check_choice(f'censorship of case {result["case_id"]}',
                                    sample['censorship'], (0, 1))
            self.results.append(dict(months=float(sample['survival_months']),
                                     event=censored == 0, **result))

    def undefined_scores(self, infos: Sequence[Mapping]) -> dict[str, str]:
        """Name the index, if no two patients can be compared."""
        months, censored = np.array(
            [(info['survival_months'], info['censorship']) for info in infos
             if info.get('survival_months') is not None
             and info.get('censorship') is not None],
            np.float64).reshape(-1, 2).T
        return {} if known_pairs(months, censored == 0).any() else {
            'c_index': 'no two patients can be compared by who died first '
            f'({int((censored == 0).sum())} deaths)'}

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        self.check_number(results)
        warn_repeated(results)
        table = average_risks(results)
        self.write(RISKS_FILE, write_risks, table)
        values = self._concordance(table)
        values['events'] = int(table.events.sum())
        for key, hidden in hidden_results(results).items():
            table = average_risks(hidden)
            self.write(hidden_file(RISKS_FILE, key), write_risks, table)
            values.update({f'{key}/{name}': value for name, value
                           in self._concordance(table).items()})
        return values

    def _concordance(self, table: PatientRisks) -> dict[str, float]:
        """The index and its bounds; NaN, with a warning, without pairs."""
        value = concordance(table.risks, table.months, table.events)
        if value is None:
            log_warning('The C index is NaN: no two patients can be compared '
                        'by who died first '
                        f'({int(table.events.sum())} deaths).')
            return dict(c_index=np.nan)
        values = dict(c_index=value)
        if self.num_bootstrap:
            draws = bootstrap_concordance(
                table.risks, table.months, table.events, self.num_bootstrap,
                self.seed)
            if not np.isnan(draws).all():
                low, high = percentile_interval(draws)
                values.update(c_index_low=low, c_index_high=high)
        return values


def _risk(sample: Mapping, name: str) -> dict:
    risk = sample['pred_risk']
    if risk.numel() != 1 or not risk.isfinite().all():
        raise ValueError(f'the risk of {name} must be one finite number, got '
                         f'{risk.tolist()}')
    return dict(risk=float(risk))
