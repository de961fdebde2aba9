"""Berth: a Kubernetes operator that serves language models with vLLM from one object."""

__version__ = "0.1.0"
