"""Flags: made of dataclasses, in a set of their own."""

import dataclasses
import os
import pathlib
import subprocess
import sys
from unittest import mock

from absl import flags
from absl.testing import absltest
from absl.testing import parameterized
import jax

import ooc_jax
from ooc_jax import InputError
from ooc_jax import _cache
from ooc_jax import _cli
from ooc_jax._cli import _flags
from ooc_jax._cli import _main
from ooc_jax._folders import cache_root
from ooc_jax.checkpoints import _locate
from ooc_jax.experiments import setting
from tests.experiments import scripts


@dataclasses.dataclass(frozen=True)
class _First:
  number: int = setting(3, help='A number.', source='paper')
  share: float | None = setting(0.5, help='A share.', alias='part')
  kind: str = setting('a', help='One of two.', choices=('a', 'b'))
  yes: bool = setting(False, help='Whether.')
  drawn: bool = setting(True, help='How.', choices=('png', 'pdf'))
  names: tuple[str, ...] = setting(('x', 'y'), help='Names.', group='others')


@dataclasses.dataclass(frozen=True)
class _Second:
  number: int = setting(9, help='Another number.')
  only: str | None = setting(None, help='Only here.')


_GROUPS = {'first': _First, 'second': _Second}


def _parse(*args):
  return _flags.parse_flags(['x', *args], _GROUPS, 'What it does.')


def _run(command, *args):
  """Exit status, output and errors of a command in this process."""
  done = scripts.run_here(command, *args)
  return done.returncode, done.stdout, done.stderr


class FlagsTest(parameterized.TestCase):

  def test_only_what_is_given(self):
    given = _parse('--number=4', '--noyes', 'word', '--names=a,b')
    self.assertEqual(given.of(_First), {
        'number': 4, 'yes': False, 'names': ('a', 'b')
    })  # fmt: skip
    self.assertEqual(given.of(_Second), {'number': 4})
    self.assertEqual(list(given.words), ['word'])
    self.assertEqual((given['number'], given['kind']), (4, 'a'))
    self.assertIsNone(given['only'])

  @parameterized.parameters(
      (['--share=0.25'], 0.25),
      (['--part=0.25'], 0.25),
      (['--share=none'], None),
  )
  def test_none_and_an_older_name(self, args, value):
    self.assertEqual(_parse(*args).of(_First), {'share': value})

  @parameterized.parameters(
      ([], True),
      (['--drawn'], True),
      (['--drawn=true'], True),
      (['--nodrawn'], False),
      (['--drawn=false'], False),
      (['--drawn=pdf'], ('pdf',)),
      (['--drawn=png,pdf'], ('png', 'pdf')),
  )
  def test_true_false_or_a_list(self, args, value):
    self.assertEqual(_parse(*args)['drawn'], value)

  @parameterized.parameters(
      (['--numbr=3'], "'numbr'"),
      (['--drawn=png,svg'], 'true, false, or some of png, pdf'),
      (['--number=x'], 'number=x'),
      (['--number=none'], 'number=none'),
      (['--yes=maybe'], 'yes=maybe'),
      (['--share=1', '--part=1'], '--share and --part'),
  )
  def test_refused(self, args, message):
    with self.assertRaisesRegex(InputError, message):
      _parse(*args)

  def test_the_flags_of_the_program_are_left_alone(self):
    before = flags.FLAGS.flags_by_module_dict()
    _parse('--number=4', '--yes')
    self.assertEqual(flags.FLAGS.flags_by_module_dict(), before)
    self.assertNotIn('number', flags.FLAGS)

  def test_help_has_groups_choices_and_defaults(self):
    text = _parse('--help').help
    self.assertStartsWith(text, 'What it does.\n')
    first, others, second = (
        text.index(f'\n{name}:\n') for name in ('first', 'others', 'second')
    )
    self.assertLess(first, text.index('--number=NUMBER'))
    self.assertEqual(text.count('--number='), 1)
    self.assertIn('A number. Default: 3 (paper).', text)
    self.assertIn('--kind=a|b\n      One of two. Default: a.', text)
    self.assertIn('A share. Default: 0.5. --part is the same.', text)
    self.assertIn('Whether. Default: false.', text)
    self.assertIn('--drawn=true|false|png,pdf\n', text)
    self.assertIn('Default: x,y.', text[others:])
    self.assertIn('--only=TEXT\n      Only here.\n', text[second:])
    self.assertNotIn('--verbosity', text)
    self.assertIn('--verbosity', _parse('--helpfull').help)
    self.assertLessEqual(max(map(len, text.splitlines())), 80)


class CommandTest(parameterized.TestCase):

  @parameterized.parameters(*_cli.COMMANDS)
  def test_every_command_has_help(self, name):
    status, text, errors = _run(name, '--help')
    self.assertEqual((status, errors), (0, ''))
    self.assertIn('usage: python', text)
    self.assertIn('Default: ', text)

  @parameterized.parameters(
      ('output_prediction', ['--model=smolm2'], "'smollm2'"),
      ('output_prediction', ['--weights=nowhere.gguf'], 'nowhere.gguf'),
      ('output_prediction', ['--k=1'], 'k=1'),
      ('output_prediction', ['--sides=input'], "readouts='input'"),
      ('output_prediction', ['--offset=1'], "'offset'"),
      ('output_prediction', ['smollm2'], 'smollm2'),
      ('attention_participation', ['--nulls=x'], "nulls='x'"),
      ('semantic_attention', ['--labels=a', '--k=3'], '--k is a setting'),
      ('semantic_attention', ['--attention=a', '--offset=3'], '--offset is'),
      ('compare', [], '0 results folders'),
      ('output_prediction', ['--plan=2x4', '--nodry_run'], "'v5e:2x4'"),
  )
  def test_bad_input_is_one_sentence(self, name, args, message):
    dry = [] if name == 'compare' else ['--dry_run']
    status, text, errors = _run(name, *dry, *args)
    self.assertEqual(status, 2)
    self.assertEqual(text, '')
    (line,) = errors.splitlines()
    self.assertStartsWith(line, 'error: ')
    self.assertIn(message, line)

  def test_ctrl_c_says_what_becomes_of_the_run(self):
    def main(given):
      raise KeyboardInterrupt

    command = _cli.Command(
        doc='', settings={}, main=main, interrupted='gone for good.'
    )
    status, _, errors = _run(command)
    self.assertEqual(status, 130)
    self.assertEqual(errors, '\ninterrupted; gone for good.\n')

  def test_names_of_commands(self):
    def call(*args):
      return subprocess.run(
          [sys.executable, '-m', 'ooc_jax', *args],
          capture_output=True,
          text=True,
          timeout=300,
      )

    self.assertIn('output_prediction, attention', call().stdout)
    refused = call('output_predicton')
    self.assertEqual(refused.returncode, 2)
    self.assertIn("did you mean 'output_prediction'?", refused.stderr)


class CacheTest(parameterized.TestCase):

  def _chosen(self, **environment):
    """The folder of compiled programs that an environment leads to."""
    chosen = {}
    kept = {
        k: v
        for k, v in os.environ.items()
        if k
        not in ('JAX_COMPILATION_CACHE_DIR', 'OOC_JAX_CACHE', 'XDG_CACHE_HOME')
    }
    with (
        mock.patch.dict(os.environ, kept | environment, clear=True),
        mock.patch.object(jax.config, 'update', chosen.__setitem__),
    ):
      _main._use_compilation_cache()
    return chosen.get('jax_compilation_cache_dir')

  def test_where_programs_are_kept(self):
    root = self.create_tempdir().full_path
    found = pathlib.Path(self._chosen(OOC_JAX_CACHE=root))
    self.assertEqual(found.parent, pathlib.Path(root) / 'programs')
    self.assertTrue(found.is_dir())
    home = self._chosen(XDG_CACHE_HOME=root)
    self.assertStartsWith(home, f'{root}/ooc_jax/programs/')
    home = self._chosen(HOME=root)
    self.assertStartsWith(home, f'{root}/.cache/ooc_jax/programs/')

  def test_one_folder_for_all_that_is_kept(self):
    root = pathlib.Path(self.create_tempdir().full_path)
    self.addCleanup(ooc_jax.set_cache_dir, None)
    for environment, folder in (
        ({'OOC_JAX_CACHE': str(root / 'own')}, root / 'own'),
        ({'XDG_CACHE_HOME': str(root)}, root / 'ooc_jax'),
        ({'HOME': str(root)}, root / '.cache' / 'ooc_jax'),
        ({'OOC_JAX_CACHE': ''}, None),
    ):
      others = {
          k: v
          for k, v in os.environ.items()
          if k not in ('OOC_JAX_CACHE', 'XDG_CACHE_HOME')
      }
      with mock.patch.dict(os.environ, others | environment, clear=True):
        ooc_jax.set_cache_dir()
        self.assertEqual(cache_root(), folder)
        copies = _locate.cache_folder('owner/name')
      prepared = _cache._Place.folder
      if folder is None:
        self.assertEqual((copies, prepared), (None, None))
        self.assertFalse(_cache.is_kept())
      else:
        self.assertEqual(copies, folder / 'models' / 'owner--name')
        self.assertEqual(prepared, folder / 'prepared')
    self.assertEmpty(list(root.iterdir()))

  def test_turned_off_chosen_by_the_user_or_impossible(self):
    file = self.create_tempfile().full_path
    self.assertIsNone(self._chosen(OOC_JAX_CACHE=''))
    self.assertIsNone(self._chosen(OOC_JAX_CACHE=file))
    self.assertIsNone(self._chosen(JAX_COMPILATION_CACHE_DIR='/x'))
    with mock.patch('pathlib.Path.expanduser', side_effect=RuntimeError):
      self.assertIsNone(self._chosen())  # Of a user without a home.


if __name__ == '__main__':
  absltest.main()
