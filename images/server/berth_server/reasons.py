"""Every reason that the launcher gives: what it means, how it is seen, what to do, and how far that is proven.

The one source of the suggestions on the object and of the reference page, which is generated from this file. It
imports nothing of this package, so that it can be read where the rest of it is not.
"""

from __future__ import annotations

from typing import NamedTuple

REAL = "real"
"""A contract test makes it happen to the real launcher, and where vLLM has a part in it, to real vLLM."""
RECORDED = "recorded"
"""Somebody's output, published or recorded here, is replayed: the machine that the tests run on cannot make it."""
UNPROVEN = "unproven"
"""Known from vLLM's or torch's sources alone, so nothing is suggested."""


class Reason(NamedTuple):
    """meaning, detected: for the reference page. suggestion: what to do, empty when nothing is known to help.

    proof: of a real one the test in tests/contracts/launcher, of others where the text comes from.
    permanent: no restart will mend it, somebody has to change the spec, the image or the model.
    """

    meaning: str
    detected: str
    suggestion: str
    proof: str
    evidence: str = REAL
    permanent: bool = False


REASONS: dict[str, Reason] = {
    "VllmMissing": Reason(
        "The image has no vLLM.",
        "The Python behind `vllm` finds no installed distribution of that name.",
        "Set spec.server.image to an image that has vLLM 0.26 or newer, such as vllm/vllm-openai.",
        "test_process.py::test_an_image_without_vllm",
        permanent=True,
    ),
    "VllmTooOld": Reason(
        "The image's vLLM is older than 0.26, the first release with endpoint plugins.",
        "The version of the installed distribution.",
        "Set spec.server.image to an image with vLLM 0.26 or newer.",
        "test_process.py::test_an_image_with_a_vllm_without_plugins",
        permanent=True,
    ),
    "KeysMissing": Reason(
        "The Secret of spec.server.apiKeySecretRef has no key in it, or cannot be read: nobody would be admitted.",
        "Read before vLLM starts.",
        "Put at least one key into that Secret; the next start reads it.",
        "test_process.py::test_without_a_key_nothing_is_started",
        permanent=True,
    ),
    "ModelNotFound": Reason(
        "The hub has no such repository that the token can see, or there is no such path in the claim or the image.",
        "Looked for before vLLM starts; the hub's answer 404, or 401 without a token.",
        "Correct spec.model.source, or copy the model to it; for a private repository name a token in "
        "spec.model.secretRef.",
        "test_before_vllm.py::test_what_keeps_vllm_from_being_started",
        permanent=True,
    ),
    "NotAModel": Reason(
        "The path is not a directory with a config.json.",
        "Looked at before vLLM starts.",
        "Point spec.model.source at the directory that holds config.json.",
        "test_before_vllm.py::test_what_keeps_vllm_from_being_started",
        permanent=True,
    ),
    "ModelUnreadable": Reason(
        "The server's uid may not read a file of the model.",
        "Every file is looked at before vLLM starts: vLLM itself would call it missing, half a minute later.",
        "Make the files readable for that user: chmod -R a+rX on the model directory.",
        "test_before_vllm.py::test_a_file_that_the_server_may_not_read",
        permanent=True,
    ),
    "RevisionNotFound": Reason(
        "The repository has no such branch, tag or commit.",
        "The hub's answer 404 with its code for revisions.",
        "Set spec.model.revision to a branch, tag or commit of that repository.",
        "test_before_vllm.py::test_what_the_hub_refuses",
        permanent=True,
    ),
    "ModelGated": Reason(
        "The repository is gated and the token's account has no access.",
        "The hub's answer 403 with its code for gated repositories.",
        "Ask for access on the repository's page with the account of the token, or use another token.",
        "test_before_vllm.py::test_what_the_hub_refuses",
        permanent=True,
    ),
    "TokenMissing": Reason(
        "The repository needs a token and there is none.",
        "The hub's answer 401 with its code for gated repositories, to a request without a token.",
        "Name a Secret with a Hugging Face token in spec.model.secretRef.",
        "test_before_vllm.py::test_what_the_hub_refuses",
        permanent=True,
    ),
    "TokenRejected": Reason(
        "The hub refuses the token.",
        "The hub's answer 401 to a request with a token.",
        "Put a valid token into the Secret.",
        "test_before_vllm.py::test_what_the_hub_refuses",
        permanent=True,
    ),
    "HubUnreachable": Reason(
        "The hub does not answer, is not trusted, or `HF_HUB_OFFLINE` forbids to ask it.",
        "Errors of the transport and answers 429 and 5xx, after several tries.",
        "Check proxies and HF_ENDPOINT in the chart's settings.podEnv; the launcher has tried several times.",
        "test_before_vllm.py::test_a_hub_that_cannot_be_reached",
    ),
    "DownloadFailed": Reason(
        "The download ended for another reason; the message has it.",
        "Whatever else ends the process that downloads.",
        "",
        "test_before_vllm.py::test_a_download_that_is_killed",
    ),
    "DiskFull": Reason(
        "The weights volume is full.",
        "More bytes are to come than the volume has free, or it fills up during the download.",
        "Give spec.storage.weights a larger volume.",
        "test_before_vllm.py::test_a_weights_volume_that_is_too_small",
    ),
    "VolumeNotWritable": Reason(
        "The server's uid may not write to the volume of the weights or of the engine cache.",
        "The first write of the download; the cache is tried before vLLM starts.",
        "Make the volume writable for the uid of the chart's settings.runAsUser.",
        "test_before_vllm.py::test_a_weights_volume_that_is_read_only",
    ),
    "UnknownEngineArgument": Reason(
        "This vLLM does not know an argument.",
        "What vLLM's argument parser says.",
        "Correct or remove it in spec.server.args or spec.server.extraArgs; `vllm serve --help=all` in the image lists "
        "what this version knows.",
        "test_failures.py::test_a_failed_start_has_its_reason",
        permanent=True,
    ),
    "InvalidEngineArgument": Reason(
        "vLLM refuses the value of an argument.",
        "What vLLM's argument parser or the check of its configuration says.",
        "Correct the value in spec.server.args or spec.server.extraArgs.",
        "test_failures.py::test_a_failed_start_has_its_reason",
        permanent=True,
    ),
    "UnsupportedArchitecture": Reason(
        "This vLLM, or the transformers library beside it, does not know the model's architecture.",
        "vLLM's error.",
        "Set spec.server.image to a vLLM that supports it, or serve another model.",
        "test_failures.py::test_a_failed_start_has_its_reason",
        permanent=True,
    ),
    "TokenizerMissing": Reason(
        "The model directory holds no tokenizer that can be loaded.",
        "vLLM's error.",
        "Put the tokenizer's files (tokenizer.json, tokenizer_config.json) beside config.json, or name another "
        "tokenizer with spec.server.args.tokenizer.",
        "test_failures.py::test_a_failed_start_has_its_reason",
        permanent=True,
    ),
    "PortInUse": Reason(
        "A port that the server needs is taken: 8000 by default for vLLM, 8001 for the launcher.",
        "The system's error when the port is opened.",
        "Let nothing else in the pod listen there, neither a sidecar of spec.podTemplate nor, with hostNetwork, "
        "another process of the node.",
        "test_failures.py::test_a_failed_start_has_its_reason",
    ),
    "WeightsMissing": Reason(
        "The directory holds no weights that vLLM can load.",
        "vLLM's error.",
        "Put the .safetensors files beside config.json, or correct spec.model.source.",
        "test_failures.py::test_a_failed_start_has_its_reason",
        permanent=True,
    ),
    "WeightsCorrupt": Reason(
        "A weights file is damaged or cut short.",
        "A download is compared with the sizes and SHA-256 that the hub names. Of other files only what the format "
        "shows: a damaged header or a wrong length. Numbers changed in place carry no mark and are not noticed.",
        "Copy the file again; a model from the hub is checked and fetched again by the next starts.",
        "test_failures.py::test_a_failed_start_has_its_reason",
    ),
    "OutOfMemory": Reason(
        "The memory of the container or the node did not suffice.",
        "The kernel's count of processes killed in this container for want of memory, or an allocation that failed. "
        "When the kernel kills the launcher too, the operator says the same from the container's status.",
        "Raise spec.resources.limits.memory, or have the engine use less: a smaller model, less "
        "VLLM_CPU_KVCACHE_SPACE, less offloading to the host.",
        "test_failures.py::test_a_failed_start_has_its_reason",
    ),
    "KVCacheTooSmall": Reason(
        "The memory left for the KV cache does not hold one request of full length.",
        "vLLM's error, which names the largest length that fits.",
        "Set max-model-len in spec.server.args to at most the largest that fits, or give the engine more memory.",
        "test_failures.py::test_a_failed_start_has_its_reason",
    ),
    "SharedMemoryTooSmall": Reason(
        "The pod's shared memory, volume `berth-shm`, is too small for the engine.",
        "vLLM's error.",
        "Give the volume berth-shm a larger emptyDir.sizeLimit in spec.podTemplate.",
        "test_failures.py::test_a_failed_start_has_its_reason",
    ),
    "DeviceOutOfMemory": Reason(
        "The accelerator's memory does not suffice, or something else uses it.",
        "torch's and vLLM's errors.",
        "Ask for more or larger accelerators, serve a smaller or quantised model, or lower max-num-seqs in "
        "spec.server.args; if something else uses the device, lower gpu-memory-utilization.",
        "vllm-project/vllm#14095, pytorch/pytorch#175666",
        evidence=RECORDED,
    ),
    "DeviceMissing": Reason(
        "vLLM sees no accelerator that this build of it can use.",
        "vLLM's error.",
        "Ask for an accelerator in spec.resources.limits; if the pod has one, check that its node's driver and device "
        "plugin work and that the image is built for it.",
        "test_failures.py::test_a_failed_start_has_its_reason",
    ),
    "DriverTooOld": Reason(
        "The node's driver is too old for the CUDA that the image is built with.",
        "torch's error.",
        "Update the driver of the node, or set spec.server.image to one built for an older CUDA.",
        "modelscope/FunASR#2973, lllyasviel/Fooocus#1313",
        evidence=RECORDED,
    ),
    "DeviceFailed": Reason(
        "The accelerator reports an error.",
        "torch's error `CUDA error: …`.",
        "",
        "torch 2.13, c10/cuda/CUDAException.cpp",
        evidence=UNPROVEN,
    ),
    "EngineExited": Reason(
        "vLLM ended before it served, for a reason that Berth does not know; the message has its last error.",
        "vLLM's exit code.",
        "",
        "test_failures.py::test_a_failed_start_has_its_reason",
    ),
    "EngineKilled": Reason(
        "vLLM was killed by a signal, and as far as the kernel counts not for want of memory.",
        "How vLLM ended.",
        "",
        "test_failures.py::test_a_failed_start_has_its_reason",
    ),
    "ProofFailed": Reason(
        "vLLM started and cannot answer a completion of one token.",
        "vLLM's answer, which the message has.",
        "",
        "test_failures.py::test_a_failed_start_has_its_reason",
    ),
    "PluginFailed": Reason(
        "vLLM started without Berth's plugin.",
        "vLLM does not know the plugin's route.",
        "",
        "test_failures.py::test_a_failed_start_has_its_reason",
    ),
    "EngineDied": Reason(
        "vLLM's engine died while serving.",
        "vLLM answers 503 on /health, or ends by itself.",
        "",
        "test_vllm.py::test_the_death_of_the_engine_is_seen_at_once_and_told",
    ),
    "EngineHung": Reason(
        "vLLM made no progress any more; the liveness probe had the container restarted.",
        "While it starts: no output, no bytes and no CPU time for 15 minutes. While it serves: no answer on /health "
        "for a minute, or with requests waiting nothing in its metrics has moved for five and a half. A server that "
        "clients are connected to and that has been still for a minute is asked for a token.",
        "",
        "test_hang.py::test_an_engine_that_hangs_behind_a_healthy_server",
    ),
    "LauncherFailed": Reason(
        "The launcher itself cannot run, or failed.",
        "An error of the system or a bug.",
        "",
        "test_before_vllm.py::test_a_launcher_that_cannot_run",
    ),
}

PHASES: dict[str, str] = {
    "Preparing": "The launcher looks at the image and the model.",
    "Downloading": "Weights are being downloaded; the message has bytes done and in total.",
    "StartingEngine": "vLLM is starting: imports, configuration, device.",
    "LoadingWeights": "vLLM reads the weights.",
    "WarmingUp": "vLLM compiles, captures graphs and sizes its cache.",
    "Proving": "vLLM listens; one real token is being generated.",
    "Serving": "The token came back: the pod is ready.",
    "Draining": "The pod leaves and finishes its requests.",
    "Failed": "The server cannot run; the container ends with a reason.",
}
