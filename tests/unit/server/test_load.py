"""What the launcher tells of vLLM's load: from the text of its metrics."""

from berth_server.load import load

METRICS = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a"} 3.0
vllm:num_requests_waiting{engine="0",model_name="a"} 5.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="a",reason="capacity"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="a",reason="deferred"} 2.0
vllm:cache_config_info{block_size="128",cache_dtype="auto",engine="0",kv_cache_size_tokens="4096"} 1.0
vllm:request_prompt_tokens_bucket{engine="0",le="1.0",model_name="a"} 4.0
vllm:request_prompt_tokens_sum{engine="0",model_name="a"} 100.0
vllm:request_prompt_tokens_count{engine="0",model_name="a"} 4.0
vllm:request_generation_tokens_sum{engine="0",model_name="a"} 60.0
vllm:request_generation_tokens_count{engine="0",model_name="a"} 4.0
http_requests_total{handler="/v1/completions"} 3.0
"""
NOTHING = {
    "v": 1,
    "running": None,
    "waiting": None,
    "deferred": 0.0,
    "max_num_seqs": None,
    "kv_cache_tokens": None,
    "requests": None,
    "tokens": None,
}


def test_of_one_engine() -> None:
    assert load(METRICS, {"max_num_seqs": 128}) == {
        "v": 1,
        "running": 3.0,
        "waiting": 5.0,
        "deferred": 2.0,
        "max_num_seqs": 128,
        "kv_cache_tokens": 4096,
        "requests": 4.0,
        "tokens": 160.0,
    }


def test_engines_of_one_server_are_summed() -> None:
    found = load(METRICS + METRICS.replace('engine="0"', 'engine="1"'), {"max_num_seqs": 128})
    assert (found["running"], found["waiting"], found["deferred"]) == (6, 10, 4)
    assert (found["max_num_seqs"], found["kv_cache_tokens"], found["requests"], found["tokens"]) == (256, 8192, 8, 320)


def test_what_the_launcher_asked_for_itself_is_no_request_of_anybody() -> None:
    assert load(METRICS, {}, own=3)["requests"] == 1
    assert load(METRICS, {}, own=5)["requests"] == 0, "asked for, and not counted yet"
    assert load("", {}, own=1)["requests"] is None


def test_what_is_not_told_is_not_zero() -> None:
    assert load("", {"max_num_seqs": 128}) == NOTHING
    assert load("", {}) == NOTHING
    assert load('vllm:num_requests_running{engine="0"} 0.0\n', {})["running"] == 0
