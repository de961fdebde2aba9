"""How the node tests ask the gateway: metrics summed, keys as Secrets, raw bytes exchanged."""

import base64
import hashlib
import socket
import threading

from tests.node import gateway

METRICS = """# HELP berth_gateway_requests_total Requests.
berth_gateway_requests_total{api="OpenAI",code="200",endpoint="a",namespace="x",owner="o"} 3.0
berth_gateway_requests_total{api="OpenAI",code="404",endpoint="a",namespace="x",owner="a\\"b"} 2.0
berth_gateway_requests_total{api="OpenAI",code="200",endpoint="a",namespace="y",owner="o"} 5.0
berth_gateway_requests_total_created{endpoint="a",namespace="x"} 1e9
berth_gateway_ejections_total 7.0
"""


def test_series_are_summed_by_their_labels() -> None:
    name = "berth_gateway_requests_total"
    assert gateway.summed(METRICS, name, namespace="x", endpoint="a") == 5
    assert gateway.summed(METRICS, name) == 10
    assert gateway.summed(METRICS, name, namespace="z") == 0
    assert gateway.summed(METRICS, "berth_gateway_ejections_total") == 7


def test_a_secret_has_digests_and_no_key() -> None:
    secret = gateway.secret("n", ["sk-one", "sk-two"], "owner", "a, b")
    assert "sk-" not in str(secret)
    digests = base64.b64decode(secret["data"]["sha256"]).decode().splitlines()
    assert digests == [hashlib.sha256(key).hexdigest() for key in (b"sk-one", b"sk-two")]
    assert secret["metadata"]["labels"] == {"berth.dev/gateway-key": "true"}


def test_all_answers_of_a_connection_are_read_until_it_closes() -> None:
    answers = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answers)

        threading.Thread(target=serve).start()
        found = gateway.exchange("127.0.0.1", server.getsockname()[1], b"GET / HTTP/1.1\r\n\r\n")
    assert found == ([200, 404], answers.decode())
