"""ConCL (ECCV 2022): contrast of concepts, a baseline of CMIM."""

from mmmedmask.models.concl.concl import ConCL
from mmmedmask.models.concl.head import ConCLHead
from mmmedmask.models.concl.key_queue import KeyQueue
from mmmedmask.models.concl.preprocessor import ConCLDataPreprocessor

__all__ = ['ConCL', 'ConCLDataPreprocessor', 'ConCLHead', 'KeyQueue']
