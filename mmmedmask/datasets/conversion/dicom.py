"""DICOM images in a folder per class, from anywhere, split by patient."""

from pathlib import Path

from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.conversion.check_report import (
    CheckReport,
    ConversionError,
)
from mmmedmask.datasets.conversion.folders import all_files
from mmmedmask.datasets.conversion.label_splits import (
    FoundImages,
    LabelledImage,
    draw_by_group,
)
from mmmedmask.datasets.conversion.labelled_conversion import LabelledSource
from mmmedmask.datasets.radiology import SCAN_EXTENSIONS, patient_of

NEAR_THRESHOLD = 0.87  # As for slices of the brain, see brain_tumor_mri.


def dicom_source(root: Path) -> LabelledSource:
    """Describe a folder of classes of DICOM files.

    Its sub-folders are the classes and hold, at any depth, files that end
    with ``.dcm``, one image each. Groups are the patients of the headers, or
    the studies where there is no patient's id; the split is ``patient``. A
    ConversionError names all files that cannot be read, or tell neither.
    """
    images, others, report = [], 0, CheckReport()
    for path in all_files(root):
        name = path.relative_to(root)
        if path.suffix.lower() != SCAN_EXTENSIONS[0] or len(name.parts) < 2:
            others += 1
            continue
        try:
            images.append(LabelledImage(path, f'images/{name.as_posix()}',
                                        name.parts[0], patient_of(path)))
        except ValueError as error:
            report.add_problem('broken_file', str(path), detail=str(error))
    if report.problems:
        # Those of a whole head may be broken behind it: all at once.
        for image in images:
            report.read_image(image.source)
        raise ConversionError(report)
    classes = tuple(sorted({image.label for image in images}))
    patients = {image.group for image in images}
    for noun, names in (('classes', classes), ('patients', patients)):
        if len(names) < 2:
            raise LayoutError(
                f'{root} must have at least two {noun} (sub-folders with '
                f'.dcm files are classes, headers name the patients), found '
                f'{sorted(names) or "none"} in {len(images)} DICOM files')
    notices = [
        f'Files that are not DICOM of a class: {others}.'] * bool(others)

    return LabelledSource(
        'DICOM', classes, NEAR_THRESHOLD,
        lambda _: FoundImages(images, notices),
        lambda images, _, seed: {'patient': draw_by_group(images, seed)},
        group_noun='patient')
