"""Put Swin's windows together for batches of any number in traced graphs.

``ShiftWindowMSA.window_reverse`` counts the images in Python, and an ONNX
graph mixes up those of batches that are not as large as the traced one (no
upstream issue).

Delete when it reshapes without that number.
"""

from mmmedmask.compat.replacing import replaces


def reverse_windows_of_any_batch() -> None:
    """Let mmpretrain's ``ShiftWindowMSA`` take any number of images."""
    from mmpretrain.models.utils.attention import ShiftWindowMSA

    @replaces(ShiftWindowMSA, 'window_reverse')
    def window_reverse(reverse, windows, height, width, size):
        channels = windows.shape[-1]
        cells = windows.view(-1, height // size, width // size, size, size,
                             channels)
        return cells.transpose(2, 3).reshape(-1, height, width, channels)
