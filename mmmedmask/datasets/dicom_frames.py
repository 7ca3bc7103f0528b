"""Compressed DICOM for pydicom, decoded by imagecodecs.

For these transfer syntaxes pydicom wants libraries besides pillow, of which
that for lossless JPEG is under the GPL; imagecodecs is here anyway.
"""

import functools

import numpy as np
from pydicom import uid
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner

_CODECS = {uid.JPEGExtended12Bit: 'jpeg8', uid.JPEGLossless: 'jpegsof3',
           uid.JPEGLosslessSV1: 'jpegsof3', uid.JPEGLSLossless: 'jpegls',
           uid.JPEGLSNearLossless: 'jpegls', uid.HTJ2K: 'htj2k',
           uid.HTJ2KLossless: 'htj2k', uid.HTJ2KLosslessRPCL: 'htj2k'}
# pydicom asks a module of decoders for both.
DECODER_DEPENDENCIES = dict.fromkeys(_CODECS, ('imagecodecs', ))


def is_available(syntax: str) -> bool:
    """Whether a transfer syntax is decoded here."""
    return syntax in _CODECS


@functools.cache
def register_decoders() -> None:
    """Let pydicom decode these transfer syntaxes here, too."""
    for syntax in _CODECS:
        get_decoder(syntax).add_plugin('imagecodecs',
                                       (__name__, 'decode_frame'))


def decode_frame(data: bytes, runner: DecodeRunner) -> bytearray:
    """Decode a frame by rows, a pixel's samples side by side, for pydicom."""
    import imagecodecs

    codec = _CODECS[runner.transfer_syntax]
    values = getattr(imagecodecs, f'{codec}_decode')(data)
    shape = runner.rows, runner.columns, runner.samples_per_pixel
    if values.size != np.prod(shape) or values.shape[:2] != shape[:2]:
        raise ValueError(
            f'the frame is {values.shape}, the header says {shape}')
    if runner.pixel_representation == 1 and values.dtype.kind == 'u':
        # Two's complement of the bits that are stored, without the sign's
        # copies in front.
        spare = 8 * values.itemsize - runner.bits_stored
        signed = values.dtype.str.replace('u', 'i')
        values = (values << spare).view(signed) >> spare
    runner.set_option('bits_allocated', 8 * values.itemsize)
    if runner.samples_per_pixel > 1:
        runner.set_option('planar_configuration', 0)
    return bytearray(values.tobytes())
