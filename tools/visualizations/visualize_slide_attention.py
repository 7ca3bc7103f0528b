"""Draw which patches of a slide a model attends to, and what it sees there.

    python tools/visualizations/visualize_slide_attention.py CONFIG \
        CHECKPOINT --features h5_files/a.h5 --slide a.svs --out heatmaps

writes OUT/<slide>_attention.png, OUT/<slide>_classes.png (probability of
each class for a bag that holds one patch alone) and OUT/<slide>.geojson for
QuPath. Without the slide its thumbnail is used, if it lies where
extract_features.py puts it, else an empty canvas. A slide that cannot be
drawn stops no other; the exit status is 1 then.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import picture_tool

from mmmedmask.util.command_line import check_overwrites
from mmmedmask.util.run_tool import run_tool


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = picture_tool.make_parser(__doc__, '--split', '--device',
                                      config='config of the model',
                                      folder='folder for the files')
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--features', type=Path, nargs='+', metavar='FILE',
                        help='files of features with coordinates, a bag each')
    source.add_argument(
        '--case', nargs='+', metavar='CASE_ID',
        help="patients of the --split's data set, with their genes and all "
        'their slides in one bag')
    parser.add_argument(
        '--slide', type=Path, nargs='+', default=[],
        help='slide files, or folders with them, found by their names')
    parser.add_argument(
        '--thumbnail', type=Path,
        help='picture of the one slide, in the place of --slide')
    parser.add_argument('--patch-size', type=int,
                        help='side of a patch in pixels of the finest level, '
                        'if the file does not tell it')
    parser.add_argument(
        '--slide-mpp', type=float,
        help='µm per pixel of the finest level, for coordinates in µm')
    parser.add_argument(
        '--scale', choices=('percentile', 'minmax'), default='percentile',
        help='of the colours of attention (default: %(default)s)')
    parser.add_argument('--no-classes', action='store_true',
                        help='do not classify patches one by one')
    parser.add_argument('--max-side', type=int, default=800,
                        help='of a picture in pixels (default: %(default)s)')
    return parser.parse_args(argv)


def bags_of_files(args, failed):
    """Give each file's name, its slides (one) by name, and inputs.

    Why a file cannot be used goes to the list ``failed``.
    """
    from mmmedmask.datasets.slides.feature_files import (
        SlideFeatureError,
        slide_name,
    )
    from mmmedmask.datasets.slides.slide_features import SlideFeatures
    from mmmedmask.util.checks import check_names_differ
    for name, path in check_names_differ(
            [(slide_name(path.name), path) for path in args.features],
            'their pictures would overwrite each other').items():
        try:
            with SlideFeatures(path, mpp=args.slide_mpp) as features:
                inputs = dict(patches=features.read(),
                              coords=features.coords, genes=None)
        except SlideFeatureError as error:
            failed.append(str(error))
            continue
        yield name, {name: features}, inputs


def bags_of_cases(args, config, failed):
    """Give each patient, slides by name, and inputs as of the data set.

    Why one's slides cannot be used goes to the list ``failed``.
    """
    from mmmedmask.datasets.slides.feature_files import SlideFeatureError
    from mmmedmask.datasets.slides.slide_features import SlideFeatures
    dataset = picture_tool.build_dataset(config, args.split)
    places = {}
    for place in range(len(dataset)):
        name = dataset.get_data_info(place)['case_id']
        places.setdefault(name, []).append(place)
    for case in args.case:
        if case not in places:
            raise ValueError(f'there is no case {case!r} in the {args.split} '
                             f'set; it has {sorted(places)[:5]} and others')
        for place in places[case]:
            try:
                # The table names slides: their files may all be features.h5.
                slides = {
                    slide['slide_id']: SlideFeatures(
                        slide['path'], mpp=slide['mpp'] or args.slide_mpp)
                    for slide in dataset.get_data_info(place)['slides']}
                inputs = dataset[place]['inputs']
            except SlideFeatureError as error:
                failed.append(f'{case}: {error}')
                continue
            count = sum(slide.num_patches for slide in slides.values())
            taken = 0 if inputs['patches'] is None else len(inputs['patches'])
            if taken != count:
                raise ValueError(f'the pipeline of the {args.split} set takes '
                                 f'{taken} of the {count} patches of {case}: '
                                 'take a split that takes them all')
            yield case, slides, inputs


def draw(args: argparse.Namespace) -> list[Path]:
    """Draw everything and return what was written."""
    import torch

    from mmmedmask.apis import load_config
    from mmmedmask.apis.slide_attention import find_evidence
    from mmmedmask.apis.slide_inferencer import SlideInferencer
    from mmmedmask.datasets.image_io import ImageFileError
    from mmmedmask.datasets.slides.slide_list import list_slides
    if args.thumbnail and (args.slide or len(args.features or args.case) > 1):
        raise ValueError('--thumbnail is the picture of one slide: give one '
                         'of --features or --case, and no --slide')
    config = load_config(args.config, args.cfg_options)
    inferencer = SlideInferencer(config, args.checkpoint, args.device)
    classes = tuple(map(str, inferencer.classes()))
    slides = {task.slide_id: task.path for task in (
        list_slides(args.slide)[0] if args.slide else ())}
    written, empty, failed = [], [], []
    bags = (bags_of_files(args, failed) if args.features else
            bags_of_cases(args, config, failed))
    for bag, files, inputs in bags:
        if args.thumbnail and len(files) > 1:
            raise ValueError(f'--thumbnail is the picture of one slide, and '
                             f'{bag} has {len(files)}: {", ".join(files)}')
        inputs = {key: None if inputs.get(key) is None else
                  torch.as_tensor(inputs[key])
                  for key in ('patches', 'coords', 'genes')}
        try:
            evidence = find_evidence(inferencer.model, inputs, classes,
                                     not args.no_classes)
        # Of what the model needs of a bag, such as coordinates.
        except ValueError as error:
            failed.append(f'{bag}: {error}')
            continue
        if not evidence.attention.size:
            empty.append(bag)
            continue
        start = 0
        for name, file in files.items():
            rows = slice(start, start + file.num_patches)
            start += file.num_patches
            try:
                written += draw_slide(args, name, file, evidence, rows,
                                      classes, slides.get(name))
            # Of the slide, its picture or its coordinates.
            except (FileNotFoundError, ImageFileError, ValueError) as error:
                failed.append(str(error))
    if empty:
        print(f'Nothing is drawn of what has no patches: {", ".join(empty)}')
    if failed:
        print(*written, sep='\n')
        raise ValueError('\n'.join(
            [f'{len(failed)} slides cannot be drawn:', *failed]))
    return written


def draw_slide(args, name: str, features, evidence, rows: slice, classes,
               slide: Path | None) -> list[Path]:
    from mmmedmask.datasets.slides.slide_pictures import find_picture
    from mmmedmask.util.atomic_files import write_json
    from mmmedmask.visualization.slide_geojson import patch_features
    from mmmedmask.visualization.slide_heatmap import (
        PatchMap,
        PatchPlaces,
        draw_slide_heatmaps,
        percentile_ranks,
    )
    picture = find_picture(features, slide, args.thumbnail,
                           args.patch_size, slide_mpp=args.slide_mpp)
    places = PatchPlaces(features.coords.numpy(), picture.side, picture.size,
                         picture.origin)
    print(f'{name}: {features.num_patches} patches on {picture.source}')
    attention, measurements = [], {}
    for row, weights in enumerate(evidence.attention[:, rows]):
        title = 'attention'
        if evidence.attention_names:
            title += f' {evidence.attention_names[row]}'
        attention.append(PatchMap(title.capitalize(), weights, args.scale))
        measurements[title] = weights
        measurements[f'{title} percentile'] = 100 * percentile_ranks(weights)
    note, labels, groups = '', None, {'attention': attention}
    scores = evidence.patch_scores
    if evidence.bag_scores is not None:
        if len(classes) != len(evidence.bag_scores):
            classes = tuple(f'class {number}' for number in
                            range(len(evidence.bag_scores)))
        note = 'model: ' + ', '.join(
            f'{label} {score:.2f}' for label, score in
            zip(classes, evidence.bag_scores, strict=True))
    if scores is not None:
        scores = scores[:, rows]
        labels = scores.argmax(axis=0)
        groups['classes'] = [
            PatchMap(f'Patch alone: {label}', values, 'probability')
            for label, values in zip(classes, scores, strict=True)]
        measurements.update({
            f'probability {label}': values
            for label, values in zip(classes, scores, strict=True)})
    check_overwrites(args, ['out'], [
        args.out / f'{name}_{kind}.png' for kind in groups])
    written = []
    for kind, maps in groups.items():
        written.append(picture_tool.save_picture(
            draw_slide_heatmaps(picture.thumbnail, maps, places, name, note,
                                args.max_side),
            args.out / f'{name}_{kind}.png'))
    path = args.out / f'{name}.geojson'
    write_json(path, patch_features(places, measurements, classes, labels),
               indent=None, separators=(',', ':'))
    return [*written, path]


def main(argv: Sequence[str] | None = None) -> None:
    picture_tool.draw_or_exit('visualize_slide_attention.py', draw,
                              parse_args(argv))


if __name__ == '__main__':
    run_tool(main)
