"""The test model: a tiny Llama that knows one page of text by heart: its greedy completions are known in advance."""

import re
import shutil
import tempfile
from pathlib import Path

from local import images
from local.builder import builder
from local.progress import step
from local.tools import cache_dir

PAGE_PATH = Path(__file__).parent / "page.txt"
PAGE = PAGE_PATH.read_text(encoding="utf-8")

_SCRIPT = Path(__file__).parent / "train.py"
_LOCK = Path(__file__).parent.parent.parent / "images" / "vllm-cpu" / "requirements.lock"
_LIBRARIES = ("safetensors", "tokenizers", "torch", "transformers")


def ensure() -> Path:
    """The model's directory, in the layout of the Hugging Face hub; trained when it is not in the cache.

    The training runs in the CPU engine image, which is built for it when it is not there.
    """
    versions = re.findall(rf"^(?:{'|'.join(_LIBRARIES)})==\S+", _LOCK.read_text(), re.MULTILINE)
    key = images.digest({path.name: path.read_bytes() for path in (_SCRIPT, PAGE_PATH)}, *versions)
    model = cache_dir() / "model" / key
    if model.is_dir():
        return model
    with builder() as store:
        if model.is_dir():  # trained by the process that had the builder before
            return model
        engine = images.build(store, "vllm-cpu")
        model.parent.mkdir(parents=True, exist_ok=True)
        with (
            step("training the test model", "about 1 min"),
            tempfile.TemporaryDirectory(dir=model.parent, prefix="unfinished-") as work,
        ):
            for path in (_SCRIPT, PAGE_PATH):
                shutil.copy(path, work)
            store.run(engine, Path(work), *("python3", f"/mnt/{_SCRIPT.name}", "/mnt/page.txt", "/mnt/model"))
            (Path(work) / "model").rename(model)
    return model
