"""The pages of docs/ and the README: links lead somewhere, names are there."""

import pathlib
import re

from absl.testing import absltest
from absl.testing import parameterized

from ooc_jax import experiments

_ROOT = pathlib.Path(__file__).parents[2]
_PAGES = ('README.md', *sorted(f'docs/{x.name}' for x in _ROOT.glob('docs/*')))


class PagesTest(parameterized.TestCase):

  @parameterized.parameters(x for x in _PAGES if x.endswith(('.md', '.ipynb')))
  def test_links_and_commands(self, name):
    text = (_ROOT / name).read_text()
    links = re.findall(r'\]\((?!https?:)([^)#\s\\]+)', text)
    for link in links:
      self.assertTrue((_ROOT / name).parent.joinpath(link).exists(), link)
    for script in re.findall(r'\bexperiments/\w+\.py', text):
      self.assertTrue((_ROOT / script).exists(), script)
    for model in re.findall(r'--model=(\w+)\b(?!-)', text):
      if model != 'NAME':
        # Refuses what is none.
        experiments.load_config(model, {}, experiments.OutputPrediction)

  def test_all_is_linked(self):
    readme = (_ROOT / 'README.md').read_text()
    for name in ('reading.md', 'tpu.md', 'quickstart.ipynb'):
      self.assertIn(f'docs/{name}', readme)


if __name__ == '__main__':
  absltest.main()
