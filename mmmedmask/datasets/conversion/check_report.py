"""What a check of a data set found, as text to act on and as json."""

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mmmedmask.datasets.image_io import ImageFileError, read_image
from mmmedmask.util.atomic_files import write_json, write_text
from mmmedmask.util.checks import check_choice

# What to do about a kind of finding; shown once above its list.
ADVICE = {
    'broken_file':
    'These files cannot be used. Download or unpack them again.',
    'wrong_shape': 'These files are not as the data set describes them.',
    'size_mismatch':
    'Image and mask differ in size, so the mask belongs to another image or '
    'one of them was resized. Restore the original pair.',
    'empty_mask':
    'These masks mark nothing. If that is true of the image, it is a '
    'negative example; if not, the annotation is missing.',
    'bad_mask': 'These masks hold no instance numbers and no 0/255.',
    'annotation_mismatch':
    'The written annotations differ from the masks. Convert again.',
    'identical_across_splits':
    'The same image is in several splits, so test results will be too good. '
    'Remove it from one of them.',
    'near_identical_across_splits':
    'Nearly the same image is in several splits: look at both. If it is a '
    'copy (flipped, turned, stained or compressed differently), remove one.',
    'identical_within_split':
    'The same image several times in one split counts several times.',
    'near_identical_within_split':
    'Nearly the same image several times in one split: look at both.',
    'shared_patient':
    'Images of these patients are in several splits. The official split is '
    'so: results say little about new patients.',
    'identical_across_classes':
    'The same image with different labels: at least one label is wrong. '
    'Find out which, or leave the image out.',
    'near_identical_across_classes':
    'Nearly the same image with different labels: look at them. If they are '
    'copies, at least one label is wrong.',
    'shared_group':
    'Images of these groups are in both train and val of the split, so '
    'results say little about new ones. Use a split by group.',
    'featureless':
    'These images show almost no structure, so copies of them would not be '
    'recognised.',
    'binary_mask':
    'These masks are binary: instances were made from connected parts, and '
    'glands that touch became one. Official masks number the instances.',
    'one_number':
    'All masks of this part hold one and the same number, in several places '
    'of some: they may be binary.',
    'void':
    'The largest number of the type beside others: if it means pixels '
    'without a label, and no instance, make them 0.',
    'several_parts':
    'In these images an instance number occurs in several places (a gland '
    'cut by the border, or a slip). --split-components makes one instance '
    'of each.',
    'tiny_instance':
    'Instances this small are mostly specks of the annotation, and no '
    'detector can find them. --min-area leaves them out.',
    'missing_tile': 'Listed, but not on disk.',
    'unlisted_tile': 'On disk, but in no list.',
    'listed_twice': 'In a list twice, or in the lists of both splits.',
    'download': 'What should be known about the download.',
    'written_mismatch':
    'What was written differs from the download. Convert again.',
    'other_split': 'This split was written by another conversion.',
    'missing_class':
    'A part of the split has no image of these classes, so results on it do '
    'not concern them.',
    'few_cases':
    'So few patients cannot be split into training, validation and test. '
    'Merge the classes or leave them out.',
    'no_expression':
    'These patients are in the cohort, but have no expression.',
    'identical_expression':
    'These patients have the same expression: one of them is a copy.',
    'uninformative_genes':
    'These genes tell nothing; the first of them are named.',
    'scaled_apart':
    'All patients of these classes are of one cohort, and every cohort was '
    'z-scored by itself: what a model learns of these classes is the '
    'scaling. No result on them means anything.',
    'contradiction': 'Lines of one patient contradict each other.',
    'bad_lesion_mask': 'These masks are not black and white.',
    'unexpected_lesion':
    'The class has no lesion, but the mask marks one: label or mask is '
    'wrong.'}


@dataclass
class DataFinding:
    """A problem with files of a data set; ``kind`` is one of `ADVICE`."""

    kind: str
    files: list[str]
    detail: str = ''

    def __post_init__(self) -> None:
        check_choice('kind', self.kind, ADVICE)


@dataclass
class CheckReport:
    """Problems, which make a check fail, and notices, which do not.

    ``checked`` says what was looked at and how, one line each.
    """

    problems: list[DataFinding] = field(default_factory=list)
    notices: list[DataFinding] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    def add_problem(self, kind: str, *files: str, detail: str = '') -> None:
        """Add a problem; see :class:`DataFinding`."""
        self.problems.append(DataFinding(kind, list(files), detail))

    def add_notice(self, kind: str, *files: str, detail: str = '') -> None:
        """Add a notice; see :class:`DataFinding`."""
        self.notices.append(DataFinding(kind, list(files), detail))

    def read_image(self, path: Path) -> np.ndarray | None:
        """Read an image, shape (H, W, C), or add a problem: a broken file."""
        try:
            return read_image(path)
        except ImageFileError as error:
            self.add_problem('broken_file', str(path), detail=str(error))
            return None

    def to_text(self, max_lines: int | None = None) -> str:
        """Return the report; at most ``max_lines`` of a kind, None for all."""
        lines = [f'Checked: {line}' for line in self.checked]
        for title, findings in (('PROBLEMS', self.problems),
                                ('Notices', self.notices)):
            lines += ['', f'{title}: {len(findings) or "none"}']
            by_kind = defaultdict(list)
            for finding in findings:
                by_kind[finding.kind].append(
                    '    ' + ' | '.join(finding.files)
                    + f'  [{finding.detail}]' * bool(finding.detail))
            for kind, same in by_kind.items():
                shown = same[:max_lines]
                lines += [f'  {kind} ({len(same)}): {ADVICE[kind]}', *shown]
                if len(shown) < len(same):
                    lines.append(f'    ... and {len(same) - len(shown)} more')
        return '\n'.join(lines)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write ``check.txt`` and ``check.json``, and return their paths."""
        text, data = folder / 'check.txt', folder / 'check.json'
        write_text(text, self.to_text() + '\n')
        write_json(data, asdict(self))
        return text, data


class ConversionError(ValueError):
    """Files that cannot be converted; ``report`` names them all."""

    def __init__(self, report: CheckReport) -> None:
        super().__init__(report.to_text())
        self.report = report
