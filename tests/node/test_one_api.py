"""An endpoint that serves one API alone, to who has a key and names an account."""

from local.kubectl import Kubectl
from tests.node import endpoints

KEY, MODEL = "sk-of-the-test", "alone"


def test_one_api_alone_with_accounts(kubectl: Kubectl, namespace: str) -> None:
    endpoints.serve_with_key(kubectl, namespace, "alone", KEY, [MODEL], apis=["ScaleEGP"], requireAccount=True)
    status = kubectl.get("mep", "alone", "-n", namespace)["status"]
    assert status["urls"] == {"ScaleEGP": f"{status['url']}/egp"}
    asked = {"model": MODEL, "prompt": "Hello", "model_parameters": {"max_tokens": 2}}
    with endpoints.client(kubectl, namespace, "alone") as client:
        assert client.post("/egp/v4/completions", json=asked).status_code == 401
        client.headers["x-api-key"] = KEY
        refused = client.post("/egp/v4/completions", json=asked)
        assert (refused.status_code, "account_id is missing" in refused.json()["detail"]) == (400, True)
        assert client.post("/egp/v4/completions", json=asked | {"account_id": "a"}).status_code == 200
        assert 'berth_account_requests_total{account="a"} 1.0' in client.get("/metrics").text
        for path in ("/v1/completions", "/llm-engine/v1/llm/completions-sync", "/aleph-alpha/complete", "/invocations"):
            elsewhere = client.post(path, json={"model": MODEL, "prompt": "Hello"})
            assert (elsewhere.status_code, "this endpoint's APIs are ScaleEGP" in elsewhere.text) == (404, True), path
