"""Reasons from output that vLLM 0.32 printed on a CPU, and of accelerators from published reports, which the catalogue
names (tests/contracts/launcher/recorded)."""

from pathlib import Path
from typing import NamedTuple

import pytest

from berth_server import diagnose

RECORDED = Path(__file__).parents[2] / "contracts" / "launcher" / "recorded"


class Case(NamedTuple):
    recorded: str
    code: int
    reason: str
    says: str


CASES = [
    Case("unknown-flag", 2, "UnknownEngineArgument", "does not know the argument --nope 1."),
    Case("bad-type", 2, "InvalidEngineArgument", "argument --max-model-len: invalid human_readable_int_or_auto value"),
    Case("bad-choice", 2, "InvalidEngineArgument", "argument --dtype: invalid choice: 'float3'"),
    Case("max-model-len-too-long", 1, "InvalidEngineArgument", "max_model_len (99999) is greater than the derived"),
    Case(
        "wrong-tensor-parallel", 1, "InvalidEngineArgument", "attention heads (4) must be divisible by tensor parallel"
    ),
    Case("wrong-quantization", 1, "InvalidEngineArgument", "Cannot find the config file for awq"),
    Case("unsupported-architecture", 1, "UnsupportedArchitecture", "'HarbourForCausalLM'"),
    Case("unknown-model-type", 1, "UnsupportedArchitecture", "model type harbour"),
    Case("kv-cache-too-small", 1, "KVCacheTooSmall", "needs 3.81 GiB of KV cache and there are 1.0 GiB; the largest"),
    Case("kv-cache-out-of-memory", 1, "OutOfMemory", "requested memory for kv (100000.0 GiB)"),
    Case("shared-memory-too-small", 1, "SharedMemoryTooSmall", "160 MiB required, 64 MiB free"),
    Case("no-weights", 1, "WeightsMissing", "/model"),
    Case("truncated-weights", 1, "WeightsCorrupt", "incomplete metadata, file not fully covered"),
    Case("damaged-header", 1, "WeightsCorrupt", "invalid JSON in header"),
    Case("no-tokenizer", 1, "TokenizerMissing", "Couldn't instantiate the backend tokenizer"),
    Case("port-taken", 1, "PortInUse", "Address already in use"),
    Case("no-device", 1, "DeviceMissing", "Failed to infer device type"),
    Case("allocation-refused", 1, "OutOfMemory", "you tried to allocate 256000000000000 bytes"),
    Case("cuda-out-of-memory", 1, "DeviceOutOfMemory", "GPU 2 has a total capacity of 14.62 GiB"),
    Case("device-in-use", 1, "DeviceOutOfMemory", "is less than desired GPU memory utilization (0.9, 19.84 GiB)."),
    Case("driver-too-old", 1, "DriverTooOld", "(found version 11040)."),
    Case("wrong-shape", 1, "EngineExited", "The size of tensor a (160) must match the size of tensor b (128)"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.recorded)
def test_recorded_failures_have_a_reason_and_the_line_that_matters(case: Case) -> None:
    lines = (RECORDED / f"{case.recorded}.txt").read_text().splitlines()
    failure = diagnose.of_exit(case.code, lines, proven=False)
    assert failure.reason == case.reason
    assert case.says in failure.message
    assert "Traceback" not in failure.message
    assert "EngineCore pid=" not in failure.message


def test_every_recording_is_a_case() -> None:
    assert {path.stem for path in RECORDED.glob("*.txt")} == {case.recorded for case in CASES}


def test_an_engine_that_died_under_requests_is_not_taken_for_a_wrong_argument() -> None:
    lines = [
        "vllm: error: unrecognized arguments: --quoted-in-a-prompt",
        "(APIServer pid=7) ERROR 11-21 02:50:25 [x.py:1] gone",
    ]
    assert diagnose.of_exit(0, lines, proven=True).reason == "EngineDied"


def test_a_killed_engine_leaves_no_error_and_that_is_said() -> None:
    lines = [
        "(APIServer pid=7) ERROR 11-21 03:30:21 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: "
        "EngineCore encountered an issue. See stack trace (above) for the root cause.",
        "INFO:     Finished server process [17211]",
    ]
    failure = diagnose.of_exit(0, lines, proven=True)
    assert failure.reason == "EngineDied"
    assert failure.message.endswith("It left no error, as when one of its processes is killed.")


def test_memory_that_runs_out_under_load_has_its_reason() -> None:
    lines = [
        "(EngineCore pid=9) ERROR 11-21 03:30:21 [core.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried to x"
    ]
    assert diagnose.of_exit(0, lines, proven=True).reason == "DeviceOutOfMemory"


@pytest.mark.parametrize(
    ("estimate", "says"),
    [
        ("Based on the available memory, the estimated maximum model length is 896. ", "that fits is 896."),
        ("", "that fits is unknown."),
    ],
)
def test_the_largest_length_that_fits_is_told(estimate: str, says: str) -> None:
    line = (
        "ValueError: To serve at least one request with the model's max seq len (2048), (0.5 GiB KV cache is needed, "
        f"which is larger than the available KV cache memory (0.2 GiB). {estimate}Try increasing"
    )
    failure = diagnose.of_exit(1, [line], proven=False)
    assert failure.message.startswith("One request of max-model-len 2048 needs 0.5 GiB of KV cache")
    assert failure.message.endswith(says)


def test_the_last_line_stands_in_for_an_exception() -> None:
    failure = diagnose.of_exit(1, ["first", "last line"], proven=False)
    assert failure.message == "vLLM ended with exit code 1 before it served. Its last error: last line"


def test_an_exit_without_a_word() -> None:
    failure = diagnose.of_exit(1, [], proven=False)
    assert (failure.reason, failure.message) == ("EngineExited", "vLLM ended with exit code 1 before it served.")


def test_an_engine_that_ends_with_0_before_it_serves_has_died() -> None:
    assert diagnose.of_exit(0, [], proven=False).reason == "EngineDied"


@pytest.mark.parametrize(("code", "name"), [(-9, "SIGKILL"), (-11, "SIGSEGV"), (-63, "signal 63")])
def test_a_signal_has_a_name(code: int, name: str) -> None:
    failure = diagnose.of_exit(code, [], proven=False)
    assert failure.reason == "EngineKilled"
    assert name in failure.message


def test_the_cause_is_the_last_exception_that_does_not_blame_another_process() -> None:
    texts = [
        "ValueError: an early one, handled",
        "RuntimeError: the cause",
        "    raise RuntimeError(",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
        "  warnings.warn('resource_tracker')",
    ]
    assert diagnose.root_cause(texts) == "RuntimeError: the cause"
    assert diagnose.root_cause(texts[2:]) is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("(EngineCore pid=7845) ERROR 11-21 02:50:25 [core.py:1510] ValueError: x", "ValueError: x"),
        ("(APIServer pid=1) INFO 11-21 02:46:10 [api_utils.py:286] args", "args"),
        ("INFO:     Started server process [7229]", "INFO:     Started server process [7229]"),
        ("plain", "plain"),
    ],
)
def test_lines_are_read_without_their_prefix(line: str, text: str) -> None:
    assert diagnose.bare(line) == text
