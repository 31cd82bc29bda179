"""What the files of a family are, written without the code under test.

Each family's test has a `FACTS`. The tiny checkpoints of the tests, the tables'
meaning, the golden files and the live comparison are all made of them.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
  """A family in other people's files.

  Attributes:
    hf_keys: `config.json` of a tiny model of head width H, in the hub's
      dialect, beside the sizes.
    norms: Our name of each norm of a layer -> the name in transformers.
    gguf_norms: Name in transformers -> name in a GGUF file; empty where
      llama.cpp has no such files.
    gguf_keys: Keys of a tiny GGUF file under the architecture's name, beside
      the sizes.
    gguf_offset: What llama.cpp's converter adds to the weights of norms.
    gguf_interleaved: Whether it interleaves the rows of queries and keys.
    qkv_bias: Whether queries, keys and values have biases.
    llama_names: Whether the tensors have Llama's names: of other families
      their own tests write tiny checkpoints.
    golden: Configs of transformers for the golden files, by folder; called
      with the module, which the tests themselves do not need.
    model_class: In transformers, by folder where it is another one.
    sharp: Size of query and key weights in the golden files: attention logits
      that matter, but no softmax so sharp that float32 rounding grows from
      layer to layer.
    sites: Site -> ('before' or 'after', module of a layer in transformers).
  """

  hf_keys: Callable[[int], dict[str, Any]]
  norms: Mapping[str, str]
  gguf_norms: Mapping[str, str]
  gguf_keys: Mapping[str, int | float] = dataclasses.field(default_factory=dict)
  gguf_offset: float = 0.0
  gguf_interleaved: bool = False
  qkv_bias: bool = False
  llama_names: bool = True
  golden: Callable[[Any], dict[str, Any]]
  model_class: Callable[[str], str]
  sharp: float
  sites: Mapping[str, tuple[str, str]]
