"""What importing the package costs, and that every name is there nevertheless."""

import importlib
import subprocess
import sys

import pytest

import ex5lib

# Whatever the project needs elsewhere is missing.
BLOCKED = """
import sys
for name in ("dlib", "onnx", "matplotlib", "typer", "rich", "skimage", "scipy", "IPython", "ipywidgets", "pooch",
             "requests", "filelock", "tqdm", "torchvision", "psutil"):
    sys.modules[name] = None
"""


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_a_search_and_the_gpus_bench_need_no_more_than_torch_numpy_safetensors_and_pillow():
    _run(BLOCKED + "import ex5lib, ex5lib.projector, benchmarks.gpu; ex5lib.project; ex5lib.Grayscale()")


def test_importing_the_package_imports_nothing_heavy():
    loaded = _run("import ex5lib, sys; print(*sys.modules)").split()
    assert not {"torch", "numpy", "dlib", "matplotlib"} & set(loaded)


@pytest.mark.parametrize("name", ex5lib.__all__)
def test_every_name_is_listed_and_is_its_modules(name):
    assert name in dir(ex5lib)
    module = importlib.import_module(f"ex5lib.{ex5lib._MODULES[name]}")
    assert getattr(ex5lib, name) is getattr(module, name)


def test_a_modules_import_does_not_hide_the_function_of_its_name():
    code = "from ex5lib.restore import TASKS; import ex5lib; print(callable(ex5lib.restore), ex5lib.alignment.__name__)"
    assert _run(code).split() == ["True", "ex5lib.alignment"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ex5lib.nothing  # noqa: B018
