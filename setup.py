"""Install script."""

import pathlib

import setuptools

_GGUF = ['gguf>=0.17']
_WEB = ['duckdb>=1.3', 'jinja2>=3.1', 'starlette>=0.47', 'uvicorn>=0.34']
# The studied models stand at the top of the repository and nowhere else.
_CONFIGS = 'ooc_jax.experiments.configs'

setuptools.setup(
    name='ooc_jax',
    version='0.1.0',
    description='Weight-based, out-of-context explanation of SAE features.',
    long_description=pathlib.Path(__file__).with_name('README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=[
        *setuptools.find_packages(include=['ooc_jax', 'ooc_jax.*']),
        _CONFIGS,
    ],
    package_dir={_CONFIGS: 'configs'},
    package_data={
        'ooc_jax': [
            'bundled/**/*',
            'dictionaries/*.xz',
            'experiments/intrusion/page.html',
            'explore/static/*',
            'explore/templates/*',
            'validation/default_corpus/*',
        ]
    },
    entry_points={'console_scripts': ['ooc-jax = ooc_jax._cli:main']},
    python_requires='>=3.11',
    install_requires=[
        'absl-py>=2.1',
        'einops>=0.8',
        'flax>=0.12',
        'huggingface_hub>=1.0',
        'jax>=0.10',
        'jaxtyping>=0.3',
        'matplotlib>=3.9',
        'numpy>=2.0',
        'optax>=0.2.5',
        'orbax-checkpoint>=0.12',
        'pyarrow>=18',
        'rapidfuzz>=3.10',
        'rich>=14',
        'safetensors>=0.6',
        'scipy>=1.13',
        'tokenizers>=0.22',
    ],
    extras_require={
        'cuda': ['jax[cuda13]>=0.10'],
        # Runs the quickstart: Jupyter's own client and kernel.
        'docs': ['ipykernel>=7', 'nbclient>=0.10'],
        'gguf': _GGUF,
        'parity': [
            'pytest>=8',
            'sae-lens==6.54.12',
            'torch==2.13.0',
            'transformers>=5.0',
        ],
        'test': [
            'beartype==0.23.1',
            'httpx>=0.28',
            'hypothesis>=6.100',
            'pandas>=2.2',
            'pyink==26.5.1',
            'pyrefly==1.4.1',
            'pytest>=8',
            'pytest-xdist>=3.7',
            'ruff==0.17.6',
            'setuptools>=70.1',
            *_GGUF,
            *_WEB,
        ],
        # Beside Chromium, its driver and, without what it depends on, axe-core:
        # pip install --no-deps axe-playwright-python==0.1.8
        'test-web': ['selenium>=4.30'],
        'tpu': ['jax[tpu]>=0.10'],
        'web': _WEB,
    },
)
