"""Tables of tensors that most families share, less the norms between them."""

from collections.abc import Mapping

from ooc_jax.model.families._family import Rule

# Our name of a bias, its letter in files, and the axis letter of its heads.
_BIASES = (('query', 'q', 'n'), ('key', 'k', 'k'), ('value', 'v', 'k'))


def layer_norm_rules(ours: str, theirs: str) -> tuple[Rule, Rule]:
  """Gain and bias of a LayerNorm."""
  return (
      Rule(f'{ours}/weight', f'{theirs}.weight', 'd -> d'),
      Rule(f'{ours}/bias', f'{theirs}.bias', 'd -> d'),
  )


def hf_table(
    norms: Mapping[str, str], *, qkv_bias: bool = False
) -> tuple[Rule, ...]:
  """Names and layouts of Hugging Face safetensors with Llama's names.

  Args:
    norms: Our name of each norm of a layer -> theirs.
    qkv_bias: Whether queries, keys and values have biases.
  """
  us, hf = 'layer_{i}', 'model.layers.{i}'
  return (
      Rule('embedding', 'model.embed_tokens.weight', 'v d -> v d'),
      Rule('final_norm/weight', 'model.norm.weight', 'd -> d'),
      Rule('unembedding', 'lm_head.weight', 'v d -> v d'),
      Rule(f'{us}/attention/query', f'{hf}.self_attn.q_proj.weight',
           '(n h) d -> d n h'),
      Rule(f'{us}/attention/key', f'{hf}.self_attn.k_proj.weight',
           '(k h) d -> d k h'),
      Rule(f'{us}/attention/value', f'{hf}.self_attn.v_proj.weight',
           '(k h) d -> d k h'),
      Rule(f'{us}/attention/output', f'{hf}.self_attn.o_proj.weight',
           'd (n h) -> n h d'),
      Rule(f'{us}/mlp/gate', f'{hf}.mlp.gate_proj.weight', 'm d -> d m'),
      Rule(f'{us}/mlp/up', f'{hf}.mlp.up_proj.weight', 'm d -> d m'),
      Rule(f'{us}/mlp/down', f'{hf}.mlp.down_proj.weight', 'd m -> m d'),
      *(
          Rule(f'{us}/{ours}/weight', f'{hf}.{theirs}.weight', 'd -> d')
          for ours, theirs in norms.items()
      ),
      *(
          Rule(f'{us}/attention/{ours}_bias', f'{hf}.self_attn.{x}_proj.bias',
               f'({heads} h) -> {heads} h')
          for ours, x, heads in _BIASES if qkv_bias
      ),
  )  # fmt: skip


def gguf_table(
    norms: Mapping[str, str],
    *,
    interleaved: bool,
    offset: float = 0.0,
    qkv_bias: bool = False,
) -> tuple[Rule, ...]:
  """Names and layouts of GGUF tensors.

  Args:
    norms: Our name of each norm of a layer -> theirs.
    interleaved: Whether each head's query and key rows are stored for rotary
      pairs of neighbours, (H/2, 2) for our (2, H/2): the trap of files of the
      `llama` architecture.
    offset: Added to the stored weights of norms: -1 where they hold
      1 + weight.
    qkv_bias: As in `hf_table`; not of interleaved files.
  """
  us, them = 'layer_{i}', 'blk.{i}'
  rows = 'h p' if interleaved else 'p h'
  return (
      Rule('embedding', 'token_embd.weight', 'v d -> v d'),
      Rule('final_norm/weight', 'output_norm.weight', 'd -> d', {}, offset),
      Rule('unembedding', 'output.weight', 'v d -> v d'),
      Rule(f'{us}/attention/query', f'{them}.attn_q.weight',
           f'(n {rows}) d -> d n (p h)'),
      Rule(f'{us}/attention/key', f'{them}.attn_k.weight',
           f'(k {rows}) d -> d k (p h)'),
      Rule(f'{us}/attention/value', f'{them}.attn_v.weight',
           '(k h) d -> d k h'),
      Rule(f'{us}/attention/output', f'{them}.attn_output.weight',
           'd (n h) -> n h d'),
      Rule(f'{us}/mlp/gate', f'{them}.ffn_gate.weight', 'm d -> d m'),
      Rule(f'{us}/mlp/up', f'{them}.ffn_up.weight', 'm d -> d m'),
      Rule(f'{us}/mlp/down', f'{them}.ffn_down.weight', 'd m -> m d'),
      *(
          Rule(f'{us}/{ours}/weight', f'{them}.{theirs}.weight', 'd -> d', {},
               offset)
          for ours, theirs in norms.items()
      ),
      *(
          Rule(f'{us}/attention/{ours}_bias', f'{them}.attn_{x}.bias',
               f'({heads} h) -> {heads} h')
          for ours, x, heads in _BIASES if qkv_bias
      ),
  )  # fmt: skip
