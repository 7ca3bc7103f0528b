"""Cox's partial likelihood of patients' risks."""

import torch
from torch import Tensor

from mmmedmask.util.checks import check_shape


def cox_partial_likelihood(risks: Tensor, times: Tensor,
                           events: Tensor) -> Tensor:
    r"""Negative log partial likelihood, mean over the events.

    Cox 1972, with Efron's (1977) correction for events at the same time. Of
    d events at time t, the l-th (l = 0 .. d - 1) adds

    .. math:: \log\Big(\sum_{j: t_j \ge t} e^{r_j} - \frac{l}{d}
        \sum_{j: t_j = t, event} e^{r_j}\Big) - r_l

    The sums are over the patients given: those of a batch stand for all who
    were still at risk. Efron's is nearer to the exact likelihood than
    Breslow's where many share a time, as they do in whole months, and the
    default of R's survival and of lifelines.

    Without any event it is 0, which has a gradient (of 0). A ValueError if the
    shapes differ.

    Args:
        risks: Log relative hazards, shape (B, ), in float32 or float64.
        times: Time to the event or to the last contact, shape (B, ).
        events: Whether the event was observed, bool, shape (B, ).

    Example:
        >>> risks, times = torch.zeros(2), torch.tensor([1., 2.])
        >>> cox_partial_likelihood(risks, times, torch.tensor([True, False]))
        tensor(0.6931)
    """
    check_shape('risks', risks, ('B', ))
    check_shape('times', times, risks.shape, 'one for each risk')
    check_shape('events', events, risks.shape, 'one for each risk')
    if not events.any():
        return risks.sum() * 0
    at, hazards = times[events][:, None], risks[events]
    # (E, B): who was at risk at each event; (E, E): events at its time.
    all_log = risks.where(times >= at, -torch.inf).logsumexp(dim=1)
    tied_log = hazards.where(at == at.T, -torch.inf).logsumexp(dim=1)
    tied = (at == at.T).to(risks.dtype)
    share = tied.tril(-1).sum(dim=1) / tied.sum(dim=1)
    # log(exp(all) - share exp(tied)), and tied is never more than all.
    sums = all_log + torch.log1p(-share * (tied_log - all_log).exp())
    return (sums - hazards).mean()
