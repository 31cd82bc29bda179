"""From the state of a training to a dictionary, and to SAELens's files."""

from collections.abc import Mapping
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np
import safetensors.numpy

from ooc_jax._errors import InputError
from ooc_jax._folders import checked_target
from ooc_jax._folders import new_folder
from ooc_jax.dictionaries._dictionary import Dictionary
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.training._step import SaeState

# What TransformerLens calls the places whose activations are those of the
# stream, so that a dictionary of them is saved as it is.
_HOOKS = {
    'resid_pre': 'blocks.{}.hook_resid_pre',
    'resid_mid': 'blocks.{}.hook_resid_mid',
    'resid_post': 'blocks.{}.hook_resid_post',
    'attn_out': 'blocks.{}.hook_attn_out',
    'mlp_out': 'blocks.{}.hook_mlp_out',
    'embedding': 'hook_embed',
}


def to_dictionary(
    state: SaeState,
    index: int,
    *,
    site: DictionarySite,
    name: str,
    dtype: DTypeLike = jnp.float32,
) -> Dictionary:
  """The SAE of one site, in the units of the model.

  With m the mean and s the scale of the activations, training sees
  (x - m) / s. So a feature of the model's units reads with the same row, has
  bias s·b - row·m and threshold s·θ, is s times as active, and the decoder,
  of rows of norm 1, stays; its bias is s·b_dec + m.

  Args:
    state: Of the training.
    index: Which of its sites.
    site: Where it was trained.
    name: For results and figures.
    dtype: Of encoder and decoder, rounded before the bias is computed: what
      rounding does to row·m is then made good. The rest is float32.
  """
  p = jax.tree.map(lambda x: x[index], state.params)
  mean, scale = state.mean[index], state.scale[index]
  encoder = p.encoder.T.astype(dtype)
  shift = jnp.einsum(
      'FD,D->F',
      encoder.astype(jnp.float32),
      mean,
      precision=jax.lax.Precision.HIGHEST,
  )
  return Dictionary(
      encoder=encoder,
      decoder=p.decoder.T.astype(dtype),
      encoder_bias=scale * p.encoder_bias - shift,
      decoder_bias=scale * p.decoder_bias + mean,
      threshold=scale * jnp.exp(p.log_threshold),
      site=site,
      name=name,
  )


def write_sae_lens(
    dictionary: Dictionary,
    folder: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
) -> pathlib.Path:
  """Writes a JumpReLU dictionary as SAELens does, to a new folder.

  `load_dictionary` reads it back bit for bit, and so does SAELens from 6.0.
  The matrices keep their dtype; `dtype` in the config is what SAELens computes
  in, float32 always.

  Args:
    dictionary: Of the residual stream, or of what a block adds to it.
    folder: Must not exist.
    metadata: More about it, as JSON: the model's name, the data, the training.

  Returns:
    The folder.

  Raises:
    InputError: The dictionary is of another site or activation, or the folder
      exists or cannot be written.
  """
  site = dictionary.site
  if site.hook not in _HOOKS or dictionary.top_k is not None:
    raise InputError(
        f'{dictionary.name} is of the hook {site.hook!r} and top_k'
        f' {dictionary.top_k}; a jumprelu SAE of {", ".join(_HOOKS)} can be'
        ' saved for SAELens, use save_dictionary for others.'
    )
  size, width = dictionary.encoder.shape
  config = {
      'architecture': 'jumprelu',
      'd_in': width,
      'd_sae': size,
      'dtype': 'float32',
      'device': 'cpu',
      'apply_b_dec_to_input': False,
      'normalize_activations': 'none',
      'reshape_activations': 'none',
      'metadata': {
          # The version whose config this is, which its loader looks for.
          'sae_lens_version': '6.54.12',
          'hook_name': _HOOKS[site.hook].format(site.layer),
          'hook_head_index': None,
          'prepend_bos': True,
          **(metadata or {}),
      },
  }
  tensors = {
      'W_enc': np.asarray(dictionary.encoder).T,
      'W_dec': np.asarray(dictionary.decoder),
      'b_enc': np.asarray(dictionary.encoder_bias),
      'b_dec': np.asarray(dictionary.decoder_bias),
      'threshold': np.asarray(dictionary.threshold),
  }
  target = checked_target(folder)
  with new_folder(target, sum(x.nbytes for x in tensors.values())) as temporary:
    weights = temporary / 'sae_weights.safetensors'
    safetensors.numpy.save_file(
        {key: np.ascontiguousarray(x) for key, x in tensors.items()}, weights
    )
    weights.chmod(0o644)
    text = json.dumps(config, indent=2, sort_keys=True) + '\n'
    (temporary / 'cfg.json').write_text(text)
  return target
