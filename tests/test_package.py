"""What importing the package costs, and that every name is there nevertheless."""

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
    _run(BLOCKED + "import ex5lib, ex5lib.inversion.projector, benchmarks.gpu; ex5lib.project; ex5lib.Grayscale()")


def test_importing_the_package_imports_nothing_heavy():
    loaded = _run("import ex5lib, sys; print(*sys.modules)").split()
    assert not {"torch", "numpy", "dlib", "matplotlib"} & set(loaded)


def test_every_name_is_listed_and_leads_to_its_object_and_any_other_is_an_attribute_error():
    for name in ex5lib.__all__:
        assert name in dir(ex5lib)
        assert getattr(ex5lib, name).__module__.startswith(("ex5lib.", "torch."))
    with pytest.raises(AttributeError, match="nothing"):
        ex5lib.nothing  # noqa: B018
