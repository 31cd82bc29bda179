"""From the names that others give to places in a model to a site."""

import re

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.dictionaries._dictionary import DictionarySite

# TransformerLens, as SAELens and Llama Scope use it. Its hook_attn_out and
# hook_mlp_out are after Gemma's post-norms, and ln2.hook_normalized is before
# the gain.
_TRANSFORMER_LENS = {
    'hook_resid_pre': 'resid_pre',
    'hook_resid_mid': 'resid_mid',
    'hook_resid_post': 'resid_post',
    'hook_attn_out': 'attn_out',
    'hook_mlp_out': 'mlp_out',
    'attn.hook_z': 'attn_z',
    'ln2.hook_normalized': 'mlp_in',
}
# What a release, or a folder in it, is called.
_FOLDERS = {
    'res': 'resid_post',
    'resid_post': 'resid_post',
    'mlp': 'mlp_out',
    'mlp_out': 'mlp_out',
    'att': 'attn_z',
    'attn_out': 'attn_z',  # Gemma Scope 2 says so of the input of W_O.
    'transcoder': 'mlp_in',
    'transcoders': 'mlp_in',
}


def site_of_hook(name: str, where: str) -> DictionarySite:
  """The site of a TransformerLens hook, 'blocks.12.hook_resid_post'.

  Args:
    name: The hook.
    where: The file that says so, for the error.

  Raises:
    InputError: There is nothing known of such a place.
  """
  if name == 'hook_embed':
    return DictionarySite(0, 'embedding')
  # A module of transformers is hooked at its output.
  if match := re.fullmatch(r'model\.layers\.(\d{1,4})', name):
    return DictionarySite(int(match[1]), 'resid_post')
  match = re.fullmatch(r'blocks\.(\d{1,4})\.([\w.]{1,60})', name)
  if match is None or match[2] not in _TRANSFORMER_LENS:
    raise InputError(
        f'{where} is of the hook {printable(name, 200)!r}, which has no known'
        ' map to the residual stream; blocks.LAYER. and one of'
        f' {", ".join(_TRANSFORMER_LENS)} have one.'
    )
  return DictionarySite(int(match[1]), _TRANSFORMER_LENS[match[2]])


def site_in_path(path: str) -> tuple[int | None, str | None]:
  """The layer and the hook that a path names, None for what it does not.

  'google/gemma-scope-2b-pt-mlp/layer_3/width_16k/average_l0_44' is layer 3 and
  'mlp_out', and so is 'mlp_out_all/layer_3_width_16k_l0_small'. What is named
  last counts.

  Args:
    path: Of a folder on the hub or here.
  """
  layer, hook = None, None
  for part in reversed(path.split('/')):
    if layer is None and hook is None and part == 'embedding':
      return 0, 'embedding'
    match = re.match(r'layer_(\d{1,4})(?:_|$)', part)
    if match and layer is None:
      layer = int(match[1])
    word = part.removesuffix('_all')
    if 'gemma-scope' in part:
      word = part.removesuffix('-canonical').rpartition('-')[2]
    if hook is None:
      hook = _FOLDERS.get(word)
  return layer, hook
