"""Write a backbone as an ONNX graph, and compare it with the network."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from mmmedmask.engine.checkpoint.foreign_networks import check_features
from mmmedmask.engine.frozen_features import show_whole_images
from mmmedmask.util.atomic_files import atomic_path
from mmmedmask.util.extras import import_extra

INPUT = 'images'
#: Largest error beside the largest value of a feature.
TOLERANCE = 1e-3


def write_onnx(path: Path, backbone: nn.Module, channels: int,
               size: tuple[int, int], step: int | None = 32) -> list[str]:
    """Write a graph for batches of any number of images.

    onnxruntime runs it on other batches, of other sizes if they may be; a
    ValueError says so if it computes something else than the network.
    Returns the names of the outputs; the input is called ``images``.

    Args:
        backbone: Takes normalised images (B, C, H, W), gives a tensor or
            several.
        step: Pixels by which sides of images may differ from ``size``
            (h, w); None for networks that take no other size.
    """
    import_extra('onnx', 'export', 'an ONNX file')
    runtime = import_extra('onnxruntime', 'export', 'an ONNX file')
    network = _Outputs(backbone).eval()
    # Made with another size than its own, a transformer's graph holds how its
    # position embeddings are resized.
    sizes = [size] if step is None else [(size[0] + step, size[1] + 2 * step),
                                         size, (size[0] + 3 * step, size[1])]
    example = torch.rand(2, channels, *sizes[0])
    with torch.no_grad():
        outputs = network(example)
    names = ['features'] if len(outputs) == 1 else [
        f'features_{number}' for number in range(len(outputs))]
    sides = {2: 'height', 3: 'width'} if step else {}
    axes = {INPUT: {0: 'batch', **sides}}
    for name, output in zip(names, outputs, strict=True):
        axes[name] = {0: 'batch', **{
            place: f'{name}_{side}' for place, side in sides.items()
            if output.ndim == 4}}
    with atomic_path(path) as temporary:
        # Tracing warns of checks in Python, which the comparison covers.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter('ignore')
            torch.onnx.export(
                network, (example, ), str(temporary), dynamo=False,
                input_names=[INPUT], output_names=names, dynamic_axes=axes)
        session = runtime.InferenceSession(
            str(temporary), providers=['CPUExecutionProvider'])
        for batch, shape in ((2, sizes[0]), *((3, size) for size in sizes)):
            images = torch.rand(batch, channels, *shape)
            with torch.no_grad():
                wanted = dict(zip(names, network(images), strict=True))
            try:
                features = session.run(None, {INPUT: images.numpy()})
            except Exception as error:  # onnxruntime's have no other base
                raise ValueError(
                    f'the ONNX graph of {type(backbone).__name__} fails for '
                    f'images of shape {tuple(images.shape)}: {error}'
                ) from None
            check_features(wanted, list(map(torch.from_numpy, features)),
                           TOLERANCE, 'the ONNX graph')
    return names


class _Outputs(nn.Module):
    """A network on whole images, whose output is a tuple."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.options = show_whole_images(network)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.network(images, **self.options)
        return (output, ) if isinstance(output, Tensor) else tuple(output)
