"""Llama-3.1-8B as it is published: which shards, and how many bytes."""

import collections
import json

from absl.testing import absltest
from absl.testing import parameterized

from ooc_jax import load_model
from ooc_jax.checkpoints import _find
from ooc_jax.model import config_from_hf
from ooc_jax.model import families
from ooc_jax.model import parameter_shapes
from tests import tiny
from tests.hub import repositories
from tests.hub.hub_case import HubCase

_REPO = repositories.LLAMA
_EMBEDDING, _HEAD = 'model.embed_tokens.weight', 'lm_head.weight'
# Published in its index.
_TOTAL_BYTES = 16_060_522_496


def _shards(*numbers):
  return [f'model-{i:05}-of-00004.safetensors' for i in numbers]


class RealSizeTest(HubCase):
  """Sixteen gigabytes, all holes: nothing of them is sent."""

  def setUp(self):
    super().setUp()
    self.remote = self.new_folder('llama')
    self.weight_map = repositories.llama_8b_files(self.remote)
    invented = {s: s[9] * 64 for s in set(self.weight_map.values())}
    self.commit = self.hub.publish(_REPO, self.remote, sha256=invented)

  def plan(self, wanted):
    folder = _find.fetch_config(_REPO, None)
    self.assertEqual(folder.name, self.commit)
    config = config_from_hf(json.loads((folder / 'config.json').read_text()))
    return _find.plan_weights(_REPO, folder, config, wanted)

  def size(self, shard):
    return (self.remote / shard).stat().st_size

  def test_the_layout_is_the_published_one(self):
    self.assertLen(self.weight_map, 291)
    self.assertEqual(
        collections.Counter(self.weight_map.values()),
        dict(zip(_shards(1, 2, 3, 4), [82, 104, 100, 5], strict=True)),
    )
    index = json.loads((self.remote / repositories.INDEX).read_text())
    self.assertEqual(index['metadata']['total_size'], _TOTAL_BYTES)
    # All tensors of the model that the published config describes.
    config = config_from_hf(
        json.loads((self.remote / 'config.json').read_text())
    )
    rules = families.hf_rules(config)
    self.assertEqual({r.theirs for r in rules}, set(self.weight_map))
    self.assertLen(parameter_shapes(config), 291)

  @parameterized.parameters(
      ([_EMBEDDING], [1]),
      ([_HEAD], [4]),
      ([_EMBEDDING, _HEAD, 'model.norm.weight'], [1, 4]),
      (['model.layers.20.mlp.gate_proj.weight'], [2]),
      (['model.layers.20.mlp.up_proj.weight'], [3]),
  )
  def test_shards_that_are_planned(self, wanted, shards):
    plan = self.plan(wanted)
    self.assertEqual([p.name for p in plan], _shards(*shards))
    self.assertEqual(
        [p.size for p in plan], list(map(self.size, _shards(*shards)))
    )
    self.assertEqual({p.cached for p in plan}, {False})
    self.assertCountEqual(
        self.hub.downloaded(), ['config.json', repositories.INDEX]
    )
    asked = {a.file for a in self.hub.asked if a.file}
    self.assertEqual(
        {f for f in asked if f.endswith('.safetensors')},
        {f'{_REPO}/{s}' for s in _shards(*shards)},
    )

  def test_all(self):
    plan = self.plan(list(self.weight_map))
    size = sum(p.size for p in plan)
    self.assertBetween(size - _TOTAL_BYTES, 1_000, 100_000)  # Headers.


class RealIndexTest(HubCase):
  """The same tensors in the same four shards, of a tiny width."""

  def setUp(self):
    super().setUp()
    folder = self.new_folder('published')
    self.weight_map = repositories.llama_8b_files(folder)
    self.remote = tiny.make_checkpoint(
        self.folder / 'llama', num_hidden_layers=32
    )
    repositories.split_by(self.remote, self.weight_map)
    self.hub.publish(_REPO, self.remote)

  def downloaded_for(self, parts):
    load_model('llama3.1-8b', parts=parts)
    names = self.hub.downloaded()
    for name in ('config.json', 'tokenizer.json', repositories.INDEX):
      names.remove(name)
    return names

  @parameterized.parameters(
      (['unembedding'], [4]),
      (['embedding', 'unembedding'], [1, 4]),
      # Shard 4 has the MLP and the norms of the last layer only.
      (['attention'], [1, 2, 3]),
      # Each layer has norms, and so each shard.
      (['embedding', 'unembedding', 'norms'], [1, 2, 3, 4]),
  )
  def test_shards_that_parts_need(self, parts, shards):
    self.assertEqual(self.downloaded_for(parts), _shards(*shards))

  def test_what_is_here_is_not_planned_to_be_downloaded(self):
    self.downloaded_for(['unembedding'])
    folder = _find.fetch_config(_REPO, None)
    config = config_from_hf(json.loads((folder / 'config.json').read_text()))
    plan = _find.plan_weights(_REPO, folder, config, [_EMBEDDING, _HEAD])
    self.assertEqual(
        [(p.name, p.cached) for p in plan],
        list(zip(_shards(1, 4), [False, True], strict=True)),
    )
    for p in plan:
      self.assertEqual(p.size, (self.remote / p.name).stat().st_size)


if __name__ == '__main__':
  absltest.main()
