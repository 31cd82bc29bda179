"""GGUF files: the bytes, as metadata and tensors; `model` says what they mean.

The header is parsed here, with every cost bounded by the file's size, and the
`gguf` package (an extra) dequantises, a few hundred thousand weights at a time.
"""

from ooc_jax.checkpoints.gguf._source import GGUFSource
from ooc_jax.checkpoints.gguf._source import is_gguf

__all__ = ('GGUFSource', 'is_gguf')
