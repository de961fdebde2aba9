"""The server payload: launcher, drain and vLLM plugin that run inside an unmodified vLLM image.

Standard library only, CPython 3.10 and later; `huggingface_hub` and vLLM are what the image brings.
"""

__version__ = "0.1.0"
