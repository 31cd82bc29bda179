"""How tensors of a foreign checkpoint map to parameters, one table a format.

Reading a table is reading the converter. Layouts are einops patterns with the
axis letters V vocabulary, D residual width, N query heads, K key-value heads,
H head width, M MLP width; P is the 2 halves of a rotary pair.
"""

from collections.abc import Iterable, Mapping
import dataclasses

import einops
import numpy as np

from ooc_jax.model import ModelConfig

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Rule:
  """One tensor: its name here, its name there, and the layout between.

  Attributes:
    ours: Path of the parameter, joined with '/'.
    theirs: Name of the tensor in the checkpoint.
    layout: An einops pattern, theirs -> ours.
    sizes: Axis sizes that the pattern cannot infer.
    offset: Added to theirs to get ours.
  """

  ours: str
  theirs: str
  layout: str
  sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  offset: float = 0.0

  def convert(self, x: np.ndarray) -> np.ndarray:
    """The tensor `theirs` as the parameter `ours`."""
    y = einops.rearrange(x, self.layout, **self.sizes)
    return y if self.offset == 0 else y + np.asarray(self.offset, y.dtype)

  def stored_part(self, index: tuple[slice, ...]) -> tuple[slice, ...] | None:
    """Where a part of `ours` lies in `theirs`.

    None where the layout does more than to exchange axes, so that there is no
    such part.
    """
    theirs, ours = (side.split() for side in self.layout.split('->'))
    if sorted(theirs) != sorted(ours):
      return None
    place = dict(zip(ours, index, strict=True))
    return tuple(place[axis] for axis in theirs)

  def inverse(self) -> 'Rule':
    """The same line read the other way."""
    source, target = self.layout.split('->')
    return Rule(
        ours=self.theirs,
        theirs=self.ours,
        layout=f'{target.strip()} -> {source.strip()}',
        sizes=self.sizes,
        offset=-self.offset,
    )


def huggingface_rules(config: ModelConfig) -> tuple[Rule, ...]:
  """Names and layouts of Hugging Face safetensors, for every family.

  `post_attention_layernorm` is the norm before the MLP in Llama, and the norm
  after the attention in Gemma.
  """
  n, k = {'n': config.num_heads}, {'k': config.num_kv_heads}
  rules = [
      Rule('embedding', 'model.embed_tokens.weight', 'v d -> v d'),
      Rule('final_norm/weight', 'model.norm.weight', 'd -> d'),
  ]
  if not config.tied:
    rules.append(Rule('unembedding', 'lm_head.weight', 'v d -> v d'))
  if config.is_gemma:
    norms = {
        'attention_norm': 'input_layernorm',
        'post_attention_norm': 'post_attention_layernorm',
        'mlp_norm': 'pre_feedforward_layernorm',
        'post_mlp_norm': 'post_feedforward_layernorm',
    }
  else:
    norms = {
        'attention_norm': 'input_layernorm',
        'mlp_norm': 'post_attention_layernorm',
    }
  if config.qk_norm:
    norms['attention/query_norm'] = 'self_attn.q_norm'
    norms['attention/key_norm'] = 'self_attn.k_norm'
  for i in range(config.num_layers):
    us, hf = f'layer_{i}', f'model.layers.{i}'
    att, mlp = f'{hf}.self_attn', f'{hf}.mlp'
    rules += [
        Rule(f'{us}/attention/query', f'{att}.q_proj.weight',
             '(n h) d -> d n h', n),
        Rule(f'{us}/attention/key', f'{att}.k_proj.weight',
             '(k h) d -> d k h', k),
        Rule(f'{us}/attention/value', f'{att}.v_proj.weight',
             '(k h) d -> d k h', k),
        Rule(f'{us}/attention/output', f'{att}.o_proj.weight',
             'd (n h) -> n h d', n),
        Rule(f'{us}/mlp/gate', f'{mlp}.gate_proj.weight', 'm d -> d m'),
        Rule(f'{us}/mlp/up', f'{mlp}.up_proj.weight', 'm d -> d m'),
        Rule(f'{us}/mlp/down', f'{mlp}.down_proj.weight', 'd m -> m d'),
    ]  # fmt: skip
    rules += [
        Rule(f'{us}/{ours}/weight', f'{hf}.{theirs}.weight', 'd -> d')
        for ours, theirs in norms.items()
    ]
  return tuple(rules)


def gguf_rules(config: ModelConfig) -> tuple[Rule, ...]:
  """Names and layouts of GGUF files, for every family.

  Two traps: files of the `llama` architecture store each head's query and key
  rows interleaved, (H/2, 2) for our (2, H/2); and Gemma's norms already hold
  1 + weight.
  """
  n, k = {'n': config.num_heads}, {'k': config.num_kv_heads}
  minus_one = -config.norm_offset
  norms = {'attention_norm': 'attn_norm', 'mlp_norm': 'ffn_norm'}
  if config.post_norms:
    norms['post_attention_norm'] = 'post_attention_norm'
    norms['post_mlp_norm'] = 'post_ffw_norm'
  if config.qk_norm:
    norms['attention/query_norm'] = 'attn_q_norm'
    norms['attention/key_norm'] = 'attn_k_norm'
  rows = 'h p' if config.family == 'llama' else 'p h'
  pair = {'p': 2}
  rules = [
      Rule('embedding', 'token_embd.weight', 'v d -> v d'),
      Rule('final_norm/weight', 'output_norm.weight', 'd -> d', {}, minus_one),
  ]
  if not config.tied:
    rules.append(Rule('unembedding', 'output.weight', 'v d -> v d'))
  for i in range(config.num_layers):
    us, them = f'layer_{i}', f'blk.{i}'
    rules += [
        Rule(f'{us}/attention/query', f'{them}.attn_q.weight',
             f'(n {rows}) d -> d n (p h)', n | pair),
        Rule(f'{us}/attention/key', f'{them}.attn_k.weight',
             f'(k {rows}) d -> d k (p h)', k | pair),
        Rule(f'{us}/attention/value', f'{them}.attn_v.weight',
             '(k h) d -> d k h', k),
        Rule(f'{us}/attention/output', f'{them}.attn_output.weight',
             'd (n h) -> n h d', n),
        Rule(f'{us}/mlp/gate', f'{them}.ffn_gate.weight', 'm d -> d m'),
        Rule(f'{us}/mlp/up', f'{them}.ffn_up.weight', 'm d -> d m'),
        Rule(f'{us}/mlp/down', f'{them}.ffn_down.weight', 'd m -> m d'),
    ]  # fmt: skip
    rules += [
        Rule(f'{us}/{ours}/weight', f'{them}.{theirs}.weight', 'd -> d', {},
             minus_one)
        for ours, theirs in norms.items()
    ]  # fmt: skip
  return tuple(rules)


def converted_shape(rule: Rule, shape: Shape) -> Shape | None:
  """Shape of `ours` for a tensor of `shape`, or None if it does not fit."""
  # One zero seen as a whole tensor: no embedding is copied to learn a shape.
  try:
    zeros = np.broadcast_to(np.int8(0), shape)
    return einops.rearrange(zeros, rule.layout, **rule.sizes).shape
  except (einops.EinopsError, ValueError):
    return None


def conversion_problems(
    rules: Iterable[Rule],
    theirs: Mapping[str, Shape | None],
    expected: Mapping[str, Shape],
) -> list[str]:
  """Everything that is wrong with a checkpoint, or an empty list.

  Args:
    rules: One rule per tensor.
    theirs: Name and shape of every tensor of the checkpoint; None where the
      shape is not known.
    expected: Name and shape of every parameter of the model.
  """
  rules = tuple(rules)
  problems = [
      f'no rule reads {name}'
      for name in sorted(set(theirs) - {rule.theirs for rule in rules})
  ]
  written = set()
  for rule in rules:
    if rule.ours in written:
      problems.append(f'two rules write {rule.ours}')
    written.add(rule.ours)
    if rule.theirs not in theirs:
      problems.append(f'{rule.theirs} is missing')
      continue
    want, have = expected.get(rule.ours), theirs[rule.theirs]
    if want is None:
      problems.append(f'the model has no {rule.ours}')
    elif have is not None and converted_shape(rule, have) != want:
      problems.append(
          f'{rule.theirs} is {list(have)}, which does not give {rule.ours}'
          f' {list(want)}'
      )
  return problems + [
      f'no rule writes {name}' for name in sorted(set(expected) - written)
  ]
