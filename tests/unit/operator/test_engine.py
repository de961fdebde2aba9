"""The words that run vLLM: where the model is, how flags become words, in which order they stand."""

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.desired.engine import accelerator_count, command, flag_words, image, model_path
from tests.builders import PLATFORM, parsed


class Path(NamedTuple):
    name: str
    given: dict[str, str]
    expect: str


PATHS = [
    Path("a repository without a revision is main", {"source": "hf://org/name"},
         "/var/lib/berth/weights/org--name@main"),
    Path("a repository without an organisation", {"source": "hf://gpt2"}, "/var/lib/berth/weights/gpt2@main"),
    Path("a revision is part of the path, so that two never mix", {"source": "hf://org/name", "revision": "v1"},
         "/var/lib/berth/weights/org--name@v1"),
    Path("a branch with a slash stays one directory", {"source": "hf://org/name", "revision": "refs/pr/3"},
         "/var/lib/berth/weights/org--name@refs--pr--3"),
    Path("a whole claim", {"source": "pvc://models"}, "/var/lib/berth/model"),
    Path("a directory in a claim", {"source": "pvc://models/a/b"}, "/var/lib/berth/model/a/b"),
    Path("a trailing slash of a claim's path means nothing", {"source": "pvc://models/a/"}, "/var/lib/berth/model/a"),
    Path("a path in the image", {"source": "file:///models/llama"}, "/models/llama"),
    Path("a trailing slash of a path means nothing", {"source": "file:///models/llama/"}, "/models/llama"),
]  # fmt: skip


@pytest.mark.parametrize("case", PATHS, ids=lambda case: case.name)
def test_model_path(case: Path) -> None:
    assert model_path(parsed(model=case.given)) == case.expect


class Words(NamedTuple):
    name: str
    given: tuple[str, Any]
    expect: list[str]


WORDS = [
    Words("true is the flag alone", ("enforce-eager", True), ["--enforce-eager"]),
    Words("false is the flag with no in front", ("enable-chunked-prefill", False), ["--no-enable-chunked-prefill"]),
    Words("a number", ("max-model-len", 8192), ["--max-model-len", "8192"]),
    Words("zero is a value, not false", ("seed", 0), ["--seed", "0"]),
    Words("one is a value, not true", ("seed", 1), ["--seed", "1"]),
    Words("a fraction", ("gpu-memory-utilization", 0.9), ["--gpu-memory-utilization", "0.9"]),
    Words("text stays as it is, without quotes", ("dtype", "bfloat16"), ["--dtype", "bfloat16"]),
    Words("text with spaces is one word", ("chat-template", "a b"), ["--chat-template", "a b"]),
    Words("empty text is a word", ("chat-template", ""), ["--chat-template", ""]),
    Words("a list is one flag with several values", ("lora-modules", ["a=b", "c=d"]), ["--lora-modules", "a=b", "c=d"]),
    Words("objects in a list are JSON", ("lora-modules", [{"name": "a", "path": "/b"}]),
          ["--lora-modules", '{"name":"a","path":"/b"}']),
    Words("truth values in a list are words", ("x", [True, False, 1]), ["--x", "true", "false", "1"]),
    Words("an empty list is the flag alone", ("lora-modules", []), ["--lora-modules"]),
    Words("an object is JSON, always in the same order", ("speculative-config", {"b": 1, "a": {"y": None}}),
          ["--speculative-config", '{"a":{"y":null},"b":1}']),
    Words("a dotted key keeps its underscore", ("json-arg.some_key", 5), ["--json-arg.some_key", "5"]),
]  # fmt: skip


@pytest.mark.parametrize("case", WORDS, ids=lambda case: case.name)
def test_flag_words(case: Words) -> None:
    assert flag_words(*case.given) == case.expect


@given(st.dictionaries(st.text("ab", min_size=1), st.recursive(st.integers() | st.booleans(), st.lists)))
def test_an_object_comes_back_whole_from_its_word(value: dict[str, Any]) -> None:
    flag, word = flag_words("config", value)
    assert flag == "--config"
    assert json.loads(word) == value


class Command(NamedTuple):
    name: str
    given: dict[str, Any]
    expect: list[str]


BASE = ["vllm", "serve", "/models/m", "--served-model-name", "demo", "--port", "8000", "--shutdown-timeout", "20"]
FILE = {"source": "file:///models/m"}

COMMANDS = [
    Command("nothing but a model", {}, BASE),
    Command("a repository answers to its own name too", {"model": {"source": "hf://org/m"}},
            ["vllm", "serve", "/var/lib/berth/weights/org--m@main", "--served-model-name", "demo", "org/m", *BASE[5:]]),
    Command("a repository named as served name is there once",
            {"model": {"source": "hf://org/m", "servedNames": ["org/m", "b"]}},
            ["vllm", "serve", "/var/lib/berth/weights/org--m@main", "--served-model-name", "org/m", "b", *BASE[5:]]),
    Command("served names replace the endpoint's name, in their order", {"model": {**FILE, "servedNames": ["b", "a"]}},
            [*BASE[:4], "b", "a", *BASE[5:]]),
    Command("flags are sorted, the verbatim ones come last",
            {"server": {"args": {"seed": 1, "dtype": "auto"}, "extraArgs": ["--a", "--a"]}},
            [*BASE, "--dtype", "auto", "--seed", "1", "--a", "--a"]),
    Command("one GPU needs no parallelism", {"resources": {"limits": {"nvidia.com/gpu": 1}}}, BASE),
    Command("several GPUs are used as one", {"resources": {"limits": {"nvidia.com/gpu": "4"}}},
            [*BASE, "--tensor-parallel-size", "4"]),
    Command("AMD counts as well", {"resources": {"limits": {"amd.com/gpu": 2}}},
            [*BASE, "--tensor-parallel-size", "2"]),
    Command("a named parallelism wins over the count",
            {"resources": {"limits": {"nvidia.com/gpu": 4}}, "server": {"args": {"tensor-parallel-size": 2}}},
            [*BASE, "--tensor-parallel-size", "2"]),
    Command("pipeline and data parallelism take their share of the accelerators",
            {"resources": {"limits": {"nvidia.com/gpu": 8}},
             "server": {"args": {"data-parallel-size": 2, "pipeline-parallel-size": 2}}},
            [*BASE, "--tensor-parallel-size", "2", "--data-parallel-size", "2", "--pipeline-parallel-size", "2"]),
    Command("nothing is left for tensor parallelism",
            {"resources": {"limits": {"nvidia.com/gpu": 2}}, "server": {"args": {"pipeline-parallel-size": 2}}},
            [*BASE, "--pipeline-parallel-size", "2"]),
    Command("what vLLM will refuse is left to its own words",
            {"resources": {"limits": {"nvidia.com/gpu": 2}}, "server": {"args": {"pipeline-parallel-size": "x"}}},
            [*BASE, "--pipeline-parallel-size", "x"]),
    Command("a MIG slice is no accelerator to count", {"resources": {"limits": {"nvidia.com/mig-1g.10gb": 4}}}, BASE),
    Command("memory is no accelerator", {"resources": {"limits": {"memory": "32Gi"}}}, BASE),
]  # fmt: skip


@pytest.mark.parametrize("case", COMMANDS, ids=lambda case: case.name)
def test_command(case: Command) -> None:
    assert command(parsed(**{"model": FILE, **case.given}), PLATFORM) == case.expect


def test_accelerators_of_all_names_are_added() -> None:
    ep = parsed(resources={"limits": {"nvidia.com/gpu": 2, "amd.com/gpu": "1", "cpu": "8"}})
    assert accelerator_count(ep, PLATFORM) == 3


@pytest.mark.parametrize(("server", "expect"), [({}, "example.test/vllm:v1"), ({"image": "my/vllm:2"}, "my/vllm:2")])
def test_image_is_the_spec_s_or_the_setting(server: dict[str, str], expect: str) -> None:
    assert image(parsed(server=server), PLATFORM) == expect
