"""Cut large pictures into tiles for pre-training.

Tiles lie on a regular grid; the last row and column are moved inwards, so
that nothing is lost and no tile is padded.

    python tools/dataset_converters/cut_tiles.py IN OUT --size 224 --stride 112
"""

import argparse
from fnmatch import fnmatch
from pathlib import Path

import cv2

PICTURES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')


def tile_starts(length: int, size: int, stride: int) -> list[int]:
    """First pixels of the tiles along one axis."""
    starts = list(range(0, length - size + 1, stride))
    if starts[-1] + size < length:
        starts.append(length - size)
    return starts


def cut(path: Path, out: Path, size: int, stride: int) -> int:
    """Write the tiles of one picture and return their number."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise SystemExit(f'{path} cannot be read as a picture')
    height, width = image.shape[:2]
    if min(height, width) < size:
        raise SystemExit(f'{path} measures {height}x{width} pixels, less than '
                         f'--size {size}')
    count = 0
    for top in tile_starts(height, size, stride):
        for left in tile_starts(width, size, stride):
            name = out / f'{path.stem}_y{top:05d}_x{left:05d}.png'
            cv2.imwrite(str(name), image[top:top + size, left:left + size])
            count += 1
    return count


def main() -> None:
    """Parse the arguments and cut every picture that matches."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('input', type=Path, help='folder with pictures')
    parser.add_argument('output', type=Path, help='folder for the tiles')
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--stride', type=int, default=224)
    parser.add_argument(
        '--include', default='*', help='pattern of file names to cut')
    parser.add_argument(
        '--exclude', default='', help='pattern of file names to leave out')
    args = parser.parse_args()
    if args.size < 1 or args.stride < 1:
        raise SystemExit('--size and --stride must be at least 1, got '
                         f'{args.size} and {args.stride}')
    pictures = [
        path for path in sorted(args.input.iterdir())
        if path.suffix.lower() in PICTURES and fnmatch(path.name, args.include)
        and not (args.exclude and fnmatch(path.name, args.exclude))
    ]
    if not pictures:
        raise SystemExit(f'no picture in {args.input} matches '
                         f'{args.include!r}')
    args.output.mkdir(parents=True, exist_ok=True)
    count = sum(
        cut(path, args.output, args.size, args.stride) for path in pictures)
    print(f'{count} tiles from {len(pictures)} pictures in {args.output}')


if __name__ == '__main__':
    main()
