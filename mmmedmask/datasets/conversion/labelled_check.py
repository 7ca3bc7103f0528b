"""Check a converted data set of labelled images, and report its leaks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmmedmask.datasets.conversion.check_report import CheckReport
from mmmedmask.datasets.conversion.copies import (
    Copies,
    describe_search,
    same_what,
)
from mmmedmask.datasets.conversion.label_splits import (
    Split,
    by_attribute,
    describe_splits,
)
from mmmedmask.datasets.labelled_images import LabelledImages

if TYPE_CHECKING:
    from mmmedmask.datasets.conversion.labelled_conversion import (
        LabelledConversion,
    )


def check(conversion: LabelledConversion, out: Path) -> CheckReport:
    """Read back what was written, and report copies and shared groups.

    Args:
        conversion: What was written.
        out: Where to.

    Returns:
        The report. Copies on both sides of a split and copies with
        different classes are problems; copies within one part, groups on
        both sides of a split and empty masks are notices.
    """
    report = CheckReport()
    report.checked += describe_splits(
        conversion.splits, conversion.source.classes)
    report.checked += _describe_files(conversion)
    for notice in conversion.notices:
        report.add_notice('download', detail=notice)
    _compare_with_written(conversion, out, report)
    _add_copies(conversion, report)
    _add_shared_groups(conversion, report)
    _check_lesions(conversion, report)
    return report


def _check_lesions(conversion: LabelledConversion,
                   report: CheckReport) -> None:
    """See that masks are empty in the classes without a lesion only."""
    masks = conversion.read.masks
    for image in conversion.images:
        if not image.mask_path:
            continue
        marked = masks[image.mask_path].marked
        if marked == (image.label in conversion.source.lesion_free):
            report.add_problem(
                'unexpected_lesion' if marked else 'empty_mask',
                image.mask_path, detail=image.label)
    if masks:
        joined = sum(len(image.masks) > 1 for image in conversion.images)
        report.checked.append(
            f'{len(masks)} lesion masks, {joined} of them joined from '
            'several')


def _describe_files(conversion: LabelledConversion) -> list[str]:
    """Say which sizes and channels the files of each class have."""
    images, shapes = conversion.images, conversion.read.shapes
    sizes = Counter(f'{shape[0]} x {shape[1]}' for shape, _ in shapes)
    common = ', '.join(
        f'{size}: {number}' for size, number in sizes.most_common(5))
    rest = f', {len(sizes) - 5} more sizes' if len(sizes) > 5 else ''
    kinds = defaultdict(Counter)
    for image, (shape, kind) in zip(images, shapes, strict=True):
        kinds[f'{shape[2]} channels {kind}'][image.label] += 1
    return [
        f'sizes (h x w): {common}{rest}',
        *(f'{kind}: {counts.total()} images ('
          + ', '.join(f'{label} {counts[label]}'
                      for label in conversion.source.classes) + ')'
          for kind, counts in sorted(kinds.items())),
    ]


def _compare_with_written(conversion: LabelledConversion, out: Path,
                          report: CheckReport) -> None:
    """Read the splits, images and masks back."""
    classes = conversion.source.classes
    for name, split in conversion.splits.items():
        for part, images in split.parts().items():
            if not images:
                report.add_problem('empty_part', f'splits/{name}/{part}.csv')
                continue
            present = {image.label for image in images}
            missing = [label for label in classes if label not in present]
            if missing:
                report.add_notice(
                    'missing_class', f'splits/{name}/{part}.csv',
                    detail=', '.join(missing))
            written = LabelledImages(
                str(out),
                split=part,
                split_folder=f'splits/{name}',
                serialize_data=False)
            expected = [(str(out / image.path), image.label, image.group)
                        for image in images]
            read = [(sample['img_path'], classes[sample['gt_label']],
                     sample['group']) for sample in map(
                         written.get_data_info, range(len(written)))]
            if read != expected:
                report.add_problem(
                    'written_mismatch', f'splits/{name}/{part}.csv')
    for image in conversion.images:
        target = out / image.path
        if (not target.is_file()
                or target.read_bytes() != image.source.read_bytes()):
            report.add_problem('written_mismatch', str(target))
    for path, mask in conversion.read.masks.items():
        target = out / path
        if not target.is_file() or target.read_bytes() != mask.encoded:
            report.add_problem('written_mismatch', str(target))


def _add_copies(conversion: LabelledConversion, report: CheckReport) -> None:
    """Report groups of identical and of nearly identical images."""
    copies = conversion.copies
    labels = {image.path: image.label for image in conversion.images}
    memberships = _memberships(conversion.splits)
    identical = [
        (tuple(record.name for record in group), same_what(group))
        for group in copies.identical]
    near = _near_groups(copies)
    for kind, groups in (('identical', identical), ('near_identical', near)):
        report.checked += _count_groups(
            conversion, kind, [group for group, _ in groups])
        for group, detail in groups:
            _add_group(kind, group, detail, labels, memberships, report)
    report.checked += _count_groups(
        conversion, 'copies of any kind', copies.groups)
    if copies.featureless:
        report.add_notice('featureless', *copies.featureless)
    report.checked.append(describe_search(copies, len(conversion.images)))


def _near_groups(copies: Copies) -> list[tuple[tuple[str, ...], str]]:
    """Return the groups that hold near copies, and how near they are."""
    first = copies.first_of()
    values = defaultdict(list)
    for record, _, correlation in copies.near:
        values[first[record.name]].append(correlation)
    groups = []
    for group in copies.groups:
        if group[0] in values:
            low, high = min(values[group[0]]), max(values[group[0]])
            detail = (f'correlation {low:.4f}' if low == high else
                      f'correlations {low:.4f} to {high:.4f}')
            groups.append((group, detail))
    return groups


def _memberships(
        splits: Mapping[str, Split]) -> dict[str, set[tuple[str, str]]]:
    """Return the splits and parts of each image, by its path."""
    memberships = defaultdict(set)
    for name, split in splits.items():
        for part, images in split.parts().items():
            for image in images:
                memberships[image.path].add((name, part))
    return memberships


def _count_groups(conversion: LabelledConversion, kind: str,
                  groups: Sequence[tuple[str, ...]]) -> list[str]:
    """Count groups, those on both sides, and the test images concerned."""
    labels = {image.path: image.label for image in conversion.images}
    total = sum(len(group) for group in groups)
    mixed = sum(len({labels[name] for name in group}) > 1
                for group in groups)
    lines = [f'{kind}: {len(groups)} groups of {total} images, {mixed} of '
             'them with several classes']
    for name, split in conversion.splits.items():
        train, val = ({image.path for image in images}
                      for images in split.parts().values())
        both = [group for group in groups
                if not train.isdisjoint(group) and not val.isdisjoint(group)]
        tests = sum(len(val.intersection(group)) for group in both)
        lines.append(
            f'{kind}, {name}: {len(both)} groups in both train and val, '
            f'with {tests} of {len(val)} val images')
    return lines


def _add_group(kind: str, group: Sequence[str], detail: str,
               labels: Mapping[str, str],
               memberships: Mapping[str, set[tuple[str, str]]],
               report: CheckReport) -> None:
    """Report one group of copies, as a problem or a notice."""
    parts = set().union(*(memberships.get(name, ()) for name in group))
    both = sorted(
        name for name, part in parts
        if part == 'train' and (name, 'val') in parts)
    mixed = len({labels[name] for name in group}) > 1
    if mixed:
        report.add_problem(
            f'{kind}_across_classes',
            *(f'{name} ({labels[name]})' for name in group), detail=detail)
    if both:
        report.add_problem(
            f'{kind}_across_splits', *group,
            detail=f'{detail}; train and val of {", ".join(both)}')
    elif not mixed:
        report.add_notice(f'{kind}_within_split', *group, detail=detail)


def _add_shared_groups(conversion: LabelledConversion,
                       report: CheckReport) -> None:
    """Report, for each split, the groups on both sides."""
    if conversion.source.groups_are_copies:
        # Groups are the copies, reported one by one.
        return
    noun = conversion.source.group_noun
    for name, split in conversion.splits.items():
        train = by_attribute(split.train, 'group')
        val = by_attribute(split.val, 'group')
        shared = sorted(set(train) & set(val))
        images = sum(len(val[group]) for group in shared)
        report.checked.append(
            f'{noun}s, {name}: {len(shared)} in both train and val, with '
            f'{images} of {len(split.val)} val images')
        if shared:
            report.add_notice(
                'shared_group', f'splits/{name}',
                detail=f'{len(shared)} {noun}s with {images} of '
                f'{len(split.val)} val images: {", ".join(shared)}')
