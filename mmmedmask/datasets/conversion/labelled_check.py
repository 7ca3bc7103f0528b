"""Check a converted data set of labelled images, and report its leaks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from mmmedmask.datasets.conversion import label_splits
from mmmedmask.datasets.conversion.check_report import CheckReport
from mmmedmask.datasets.conversion.copies import same_what
from mmmedmask.datasets.labelled_images import LabelledImages

if TYPE_CHECKING:
    from mmmedmask.datasets.conversion.labelled_conversion import (
        LabelledConversion,
    )

Group = tuple[str, ...]


class LabelledCheck:
    """A conversion and the report on it.

    Copies on both sides of a split and copies with different classes are
    problems; copies within one part and groups on both sides are notices.
    """

    def __init__(self, conversion: LabelledConversion) -> None:
        self.conversion = conversion
        self.classes = conversion.source.classes
        self.labels = {image.path: image.label for image in conversion.images}
        # Of each split, the paths of train and of val.
        self.paths = {name: [{image.path for image in images}
                             for images in split.parts().values()]
                      for name, split in conversion.splits.items()}
        self.report = CheckReport(checked=label_splits.describe_splits(
            conversion.splits, self.classes))
        for notice in conversion.notices:
            self.report.add_notice('download', detail=notice)

    def run(self, out: Path) -> CheckReport:
        """Read back what was written, and report copies and shared groups."""
        self.describe_files()
        self.compare_splits(out)
        self.compare_files(out)
        self.add_copies()
        if not self.conversion.source.groups_are_copies:
            self.add_shared_groups()
        self.check_lesions()
        return self.report

    def describe_files(self) -> None:
        """Say which sizes and channels the files of each class have."""
        sizes, kinds = Counter(), defaultdict(list)
        for image, ((height, width, channels), kind) in zip(
                self.conversion.images, self.conversion.shapes, strict=True):
            sizes[f'{height} x {width}'] += 1
            kinds[f'{channels} channels {kind}'].append(image)
        common = ', '.join(
            f'{size}: {number}' for size, number in sizes.most_common(5))
        rest = f', {len(sizes) - 5} more sizes' if len(sizes) > 5 else ''
        self.report.checked += [
            f'sizes (h x w): {common}{rest}',
            *(f'{kind}: {label_splits.count_labels(images, self.classes)}'
              for kind, images in sorted(kinds.items()))]

    def compare_splits(self, out: Path) -> None:
        """Read the splits back; name others and what is missing."""
        for name in self.conversion.other_splits(out):
            self.report.add_problem(
                'other_split', name, detail='not of this conversion: delete '
                'it, or choose another folder')
        for name, split in self.conversion.splits.items():
            for part, images in split.parts().items():
                file = f'splits/{name}/{part}.csv'
                present = {image.label for image in images}
                missing = [name for name in self.classes
                           if name not in present]
                if missing:
                    self.report.add_notice(
                        'missing_class', file, detail=', '.join(missing))
                written = LabelledImages(
                    str(out), part, f'splits/{name}', serialize_data=False,
                    on_error='skip')
                read = [(sample['img_path'], self.classes[sample['gt_label']],
                         sample['group']) for sample in map(
                             written.get_data_info, range(len(written)))]
                if read != [(str(out / image.path), image.label, image.group)
                            for image in images]:
                    self.report.add_problem('written_mismatch', file)

    def compare_files(self, out: Path) -> None:
        """Read the images and masks back."""
        for name, content in chain(
                ((image.path, image.source.read_bytes())
                 for image in self.conversion.images),
                ((name, mask.encoded)
                 for name, mask in self.conversion.masks.items())):
            path = out / name
            if not path.is_file() or path.read_bytes() != content:
                self.report.add_problem('written_mismatch', str(path))

    def add_copies(self) -> None:
        """Report groups of identical and of nearly identical images."""
        copies = self.conversion.copies
        identical = [(tuple(record.name for record in group), same_what(group))
                     for group in copies.identical]
        for kind, groups in (('identical', identical),
                             ('near_identical', self._near_groups())):
            self._count_groups(kind, [group for group, _ in groups])
            for group, detail in groups:
                self._add_group(kind, group, detail)
        self._count_groups('copies of any kind', copies.groups)
        if copies.featureless:
            self.report.add_notice('featureless', *copies.featureless)
        self.report.checked.append(copies.comparison)

    def _near_groups(self) -> list[tuple[Group, str]]:
        """Return the groups that hold near copies, and how near they are."""
        copies = self.conversion.copies
        first = copies.first_of()
        values = defaultdict(list)
        for record, _, correlation in copies.near:
            values[first[record.name]].append(correlation)
        groups = []
        for group in copies.groups:
            if group[0] in values:
                low, high = min(values[group[0]]), max(values[group[0]])
                groups.append((group, f'correlation {low:.4f}' if low == high
                               else f'correlations {low:.4f} to {high:.4f}'))
        return groups

    def _count_groups(self, kind: str, groups: Sequence[Group]) -> None:
        """Count groups, those on both sides, and the test images concerned."""
        total = sum(len(group) for group in groups)
        mixed = sum(self._is_mixed(group) for group in groups)
        self.report.checked.append(
            f'{kind}: {len(groups)} groups of {total} images, {mixed} of '
            'them with several classes')
        for name in self.conversion.splits:
            train, val = self.paths[name]
            both = [group for group in groups if not train.isdisjoint(group)
                    and not val.isdisjoint(group)]
            tests = sum(len(val.intersection(group)) for group in both)
            self.report.checked.append(
                f'{kind}, {name}: {len(both)} groups in both train and val, '
                f'with {tests} of {len(val)} val images')

    def _add_group(self, kind: str, group: Group, detail: str) -> None:
        """Report one group of copies, as a problem or a notice."""
        both = sorted(name for name in self.conversion.splits if not any(
            part.isdisjoint(group) for part in self.paths[name]))
        mixed = self._is_mixed(group)
        if mixed:
            self.report.add_problem(f'{kind}_across_classes',
                                    *(f'{name} ({self.labels[name]})'
                                      for name in group), detail=detail)
        if both:
            self.report.add_problem(
                f'{kind}_across_splits', *group,
                detail=f'{detail}; train and val of {", ".join(both)}')
        elif not mixed:
            self.report.add_notice(
                f'{kind}_within_split', *group, detail=detail)

    def _is_mixed(self, group: Group) -> bool:
        return len({self.labels[name] for name in group}) > 1

    def add_shared_groups(self) -> None:
        """Report, for each split, the groups on both sides."""
        noun = self.conversion.source.group_noun
        for name, split in self.conversion.splits.items():
            train = label_splits.by_attribute(split.train, 'group')
            val = label_splits.by_attribute(split.val, 'group')
            shared = sorted(set(train) & set(val))
            images = sum(len(val[group]) for group in shared)
            self.report.checked.append(
                f'{noun}s, {name}: {len(shared)} in both train and val, with '
                f'{images} of {len(split.val)} val images')
            if shared:
                self.report.add_notice(
                    'shared_group', f'splits/{name}',
                    detail=f'{len(shared)} {noun}s with {images} of '
                    f'{len(split.val)} val images: {", ".join(shared)}')

    def check_lesions(self) -> None:
        """See that masks are empty in the classes without a lesion only."""
        masked = [image for image in self.conversion.images if image.mask_path]
        for image in masked:
            marked = self.conversion.masks[image.mask_path].marked
            if marked == (image.label in self.conversion.source.lesion_free):
                self.report.add_problem(
                    'unexpected_lesion' if marked else 'empty_mask',
                    image.mask_path, detail=image.label)
        if masked:
            joined = sum(len(image.masks) > 1 for image in masked)
            self.report.checked.append(f'{len(masked)} lesion masks, {joined} '
                                       'of them joined from several')
