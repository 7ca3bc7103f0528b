"""Pair slides of one source with genes of another, of the same class.

A *synthetic pairing*: both halves may be real, but no patient has both. It
lets all stages of an image-omic model run at real sizes where no paired
cohort is at hand. What a model learns about how slides and genes of one
patient go together is nothing, by construction; its accuracy says no more
than that each half tells the class.
"""

from collections.abc import Mapping, Sequence

import numpy as np

PAIRING_NOTE = (
    'SYNTHETIC PAIRING. Slides and gene expression in this folder come from '
    'different patients, paired at random within a class. Scores on it show '
    'that a model runs, not how well it classifies patients.')


def pair_within_classes(cases: Mapping[str, str],
                        samples: Mapping[str, Sequence[str]],
                        seed: int = 0) -> dict[str, str]:
    """Give each case a sample of its class, each sample at most once.

    Args:
        cases: Class of each case that has slides.
        samples: Names of the samples with genes, by class.
        seed: Seed of the draw.

    Returns:
        Sample of each case.

    Raises:
        ValueError: If a class has no samples, or fewer than cases.
    """
    paired = {}
    for number, label in enumerate(sorted(set(cases.values()))):
        mine = sorted(case for case, other in cases.items()
                      if other == label)
        if label not in samples:
            raise ValueError(f'there are no samples of the class {label!r}, '
                             f'only of {sorted(samples)}')
        names = sorted(samples[label])
        if len(set(names)) < len(mine):
            raise ValueError(
                f'the class {label!r} has {len(mine)} cases, but '
                f'{len(set(names))} samples: each is given to one case')
        order = np.random.default_rng([seed, number]).permutation(len(names))
        paired.update({case: names[place]
                       for case, place in zip(mine, order, strict=False)})
    return paired
