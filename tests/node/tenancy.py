"""Every way in which a request can name another tenant's model, as bytes to be sent to the gateway. Pure.

Used twice: in front of played pods (tests/unit/gateway), and on the node in front of two teams' endpoints.
"""

from __future__ import annotations

import gzip
import json
from typing import Any, NamedTuple

ASKED_TOKENS = 4
"""That each way asks for: more than a launcher, which asks for one now and then, gets meanwhile."""

REFUSED = "refused"
OURS = "own model answers"
"""The request names the other's model where nothing reads it: it is served as what it is, one for the own model."""


class Tenants(NamedTuple):
    """Who asks: a key, and a model of its own. Whom they must not reach: name, object and its namespace."""

    key: str
    ours: str
    our_namespace: str
    our_object: str
    theirs: str
    their_namespace: str
    their_object: str

    @property
    def their_service(self) -> str:
        return f"{self.their_object}.{self.their_namespace}.svc.cluster.local"


class Way(NamedTuple):
    """what: for the table.  data: all bytes of the connection.  expected: REFUSED or OURS."""

    what: str
    data: bytes
    expected: str = REFUSED


def went_wrong(way: Way, tenants: Tenants, statuses: list[int], text: str) -> str | None:
    """What an answer gives away, or that it is not the expected one; None when all is well.

    statuses: of all answers on the connection.  text: all of them.  Whether the other's pods were asked, and counted
    it, is not seen here.
    """
    if not statuses:
        return "no answer"
    if (statuses[-1] == 200) != (way.expected == OURS):
        return f"{way.expected} was expected"
    if set(statuses) == {200} and tenants.theirs in text:
        return "the other's model is named in the answer"
    if statuses[-1] not in (200, 400, 401, 404, 501, 505):
        return "not a refusal of the gateway's own"
    return None


def request(
    key: str,
    body: Any = None,
    path: str = "/v1/completions",
    *headers: str,
    host: str = "gateway",
    method: str = "POST",
    kind: str = "application/json",
    last: bool = True,
) -> bytes:
    """One request. body: sent as JSON unless it is bytes.  last: the connection ends with it."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    lines += [f"Authorization: Bearer {key}"] if key else []
    lines += ["Connection: close"] if last else []
    lines += [f"Content-Type: {kind}"] if body is not None else []
    lines += [f"Content-Length: {len(data)}"] if body is not None else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


def ways(t: Tenants) -> list[Way]:
    """All of them."""
    return [*_names(t), *_apis(t), *_bodies(t), *_addresses(t), *_framing(t), *_lists(t), *_operations(t)]


def _completion(model: Any) -> dict[str, Any]:
    return {"model": model, "prompt": "Hello", "max_tokens": ASKED_TOKENS, "temperature": 0}


def _names(t: Tenants) -> list[Way]:
    spellings = {
        "served name": t.theirs,
        "namespace/name": f"{t.their_namespace}/{t.their_object}",
        "namespace/served name": f"{t.their_namespace}/{t.theirs}",
        "vendor/name": f"vendor/{t.theirs}",
        "own namespace/its name": f"{t.our_namespace}/{t.their_object}",
        "a path out of the own namespace": f"{t.our_namespace}/../{t.their_namespace}/{t.their_object}",
        "name with blanks": f" {t.theirs} ",
        "name with a NUL": f"{t.theirs}\0",
        "own name, line end, its name": f"{t.ours}\n{t.theirs}",
        "name in capitals": t.theirs.upper(),
        "name, percent-encoded": f"%{ord(t.theirs[0]):02X}{t.theirs[1:]}",
        "name in full-width letters": "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in t.theirs),
        "Service's DNS name": t.their_service,
        "wildcard": "*",
    }
    return [Way(f"body, {what}", request(t.key, _completion(name))) for what, name in spellings.items()]


def _apis(t: Tenants) -> list[Way]:
    """The name where each API has it."""
    sync, stream = "/llm-engine/v1/llm/completions-sync", "/llm-engine/v1/llm/completions-stream"
    asked = {"prompt": "Hello", "max_new_tokens": 4, "temperature": 0}
    egp = {"prompt": "Hello", "model_parameters": {"max_tokens": 4}}
    aleph = {"prompt": "Hello", "maximum_tokens": 4}
    encoded = "".join(f"%{ord(letter):02x}" for letter in t.theirs)
    theirs, ours = f"model_endpoint_name={t.theirs}", f"model_endpoint_name={t.ours}"
    found = [
        Way("LLMEngine, query", request(t.key, asked, f"{sync}?{theirs}")),
        Way("LLMEngine, query of a stream", request(t.key, asked, f"{stream}?{theirs}")),
        Way("LLMEngine, query, percent-encoded", request(t.key, asked, f"{sync}?model_endpoint_name={encoded}")),
        Way("LLMEngine, query, the parameter's name encoded", request(t.key, asked, f"{sync}?model%5F{theirs[6:]}")),
        Way("LLMEngine, query, own name first", request(t.key, asked, f"{sync}?{ours}&{theirs}")),
        Way("LLMEngine, query, own name last", request(t.key, asked, f"{sync}?{theirs}&{ours}")),
        Way("LLMEngine, query behind a semicolon", request(t.key, asked, f"{sync}?{ours};{theirs}")),
        Way("LLMEngine, body beside own query", request(t.key, {**asked, "model": t.theirs}, f"{sync}?{ours}"), OURS),
        Way("LLMEngine, body alone", request(t.key, {**asked, "model": t.theirs}, sync)),
        Way("LLMEngine, path without prefix", request(t.key, asked, f"/v1/llm/completions-sync?{theirs}")),
        Way("AlephAlpha, body", request(t.key, {**aleph, "model": t.theirs}, "/aleph-alpha/complete")),
        Way("AlephAlpha, body, v1", request(t.key, {**aleph, "model": t.theirs}, "/aleph-alpha/v1/complete")),
        Way("AlephAlpha, query alone", request(t.key, aleph, f"/aleph-alpha/complete?model={t.theirs}")),
        Way(
            "AlephAlpha, tokenizer's path",
            request(t.key, None, f"/aleph-alpha/models/{t.theirs}/tokenizer", method="GET"),
        ),
        Way(
            "header x-api-key instead of Bearer",
            request("", _completion(t.theirs), "/v1/completions", f"x-api-key: {t.key}"),
        ),
        Way(
            "OpenAI, query beside own body",
            request(t.key, _completion(t.ours), f"/v1/completions?model={t.theirs}"),
            OURS,
        ),
    ]
    for version in ("v2", "v4", "v5"):
        for what, name in (("its name", t.theirs), ("vendor/name", f"vendor/{t.theirs}")):
            body = _completion(name) if version == "v5" else {**egp, "model": name}
            found.append(Way(f"ScaleEGP {version}, {what}", request(t.key, body, f"/egp/{version}/completions")))
    namespaced = {**egp, "model": f"{t.their_namespace}/{t.theirs}"}
    found.append(Way("ScaleEGP v4, its namespace for a vendor", request(t.key, namespaced, "/egp/v4/completions")))
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/tokenize", "/detokenize"):
        body = {"model": t.theirs, "messages": [], "input": "a", "prompt": "a", "tokens": [1], "max_tokens": 1}
        found.append(Way(f"OpenAI, {path}", request(t.key, body, path)))
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/invocations", "/inference/v1/generate"):
        found.append(Way(f"engine's own, {path}", request(t.key, {"model": t.theirs, "lora_name": t.theirs}, path)))
    return found


def _bodies(t: Tenants) -> list[Way]:
    """Bodies that two readers may read in two ways."""
    ours, theirs = json.dumps(t.ours), json.dumps(t.theirs)
    rest = '"prompt":"Hello","max_tokens":4,"temperature":0'

    def raw(text: str | bytes, *headers: str, kind: str = "application/json") -> bytes:
        return request(t.key, text.encode() if isinstance(text, str) else text, "/v1/completions", *headers, kind=kind)

    def form(*models: str) -> bytes:
        parts = [f'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n' for model in models]
        body = "".join([*parts, "--b--\r\n"]).encode()
        return request(t.key, body, "/v1/audio/transcriptions", kind="multipart/form-data; boundary=b")

    plain = f'{{"model":{theirs},{rest}}}'
    return [
        Way("two model keys, own first", raw(f'{{"model":{ours},"model":{theirs},{rest}}}')),
        Way("two model keys, own last", raw(f'{{"model":{theirs},"model":{ours},{rest}}}'), OURS),
        Way("two model keys, one escaped, own first", raw(f'{{"model":{ours},"mod\\u0065l":{theirs},{rest}}}')),
        Way("two model keys, one escaped, own last", raw(f'{{"mod\\u0065l":{theirs},"model":{ours},{rest}}}'), OURS),
        Way("Model in capitals beside model", raw(f'{{"model":{ours},"Model":{theirs},{rest}}}'), OURS),
        Way("model in a nested object", raw(f'{{"model":{ours},"extra":{{"model":{theirs}}},{rest}}}'), OURS),
        Way("model as a list", raw(f'{{"model":[{theirs}],{rest}}}')),
        Way("model as an object", raw(f'{{"model":{{"id":{theirs}}},{rest}}}')),
        Way("JSON behind a byte order mark", raw("\ufeff" + plain)),
        Way("JSON in UTF-16", raw(plain.encode("utf-16"), kind="application/json; charset=utf-16")),
        Way("JSON in gzip", raw(gzip.compress(plain.encode()), "Content-Encoding: gzip")),
        Way("JSON as text/plain", raw(plain, kind="text/plain")),
        Way("two JSON objects", raw(f'{{"model":{ours},{rest}}}{plain}')),
        Way("a form's field", form(t.theirs)),
        Way("two fields of a form, own first", form(t.ours, t.theirs)),
        Way("two fields of a form, own last", form(t.theirs, t.ours)),
        Way("URL-encoded form", raw(f"model={t.theirs}&prompt=Hello", kind="application/x-www-form-urlencoded")),
    ]


def _addresses(t: Tenants) -> list[Way]:
    """Hosts, URIs, paths and headers."""
    ours, theirs = _completion(t.ours), _completion(t.theirs)
    absolute = f"http://{t.their_service}/v1/completions"
    found = [
        Way("Host of its Service, its model", request(t.key, theirs, host=t.their_service)),
        Way("Host of its Service, own model", request(t.key, ours, host=t.their_service), OURS),
        Way("absolute URI of its Service, its model", request(t.key, theirs, absolute, host=t.their_service)),
        Way("absolute URI of its Service, own model", request(t.key, ours, absolute, host=t.their_service), OURS),
        Way("absolute URI that is not the Host", request(t.key, ours, absolute)),
        Way("two Hosts", request(t.key, ours, "/v1/completions", f"Host: {t.their_service}")),
        Way("CONNECT", request(t.key, None, f"{t.their_service}:80", method="CONNECT")),
        Way("authority as target", request(t.key, ours, f"{t.their_service}:80")),
    ]
    for path in (
        "/v1/%63ompletions",
        "/%76%31/completions",
        "//v1/completions",
        "/v1//completions",
        "/v1/./completions",
        "/v1/models/../completions",
        "/v1/%2e%2e/v1/completions",
        "/v1/completions/",
        "/v1/completions;model=x",
        "/v1/completions%00",
        "/v1/completions%3Fmodel=x",
        f"/{t.their_namespace}/{t.their_object}/v1/completions",
    ):
        found.append(Way(f"path {path.replace(t.their_namespace, 'NAMESPACE')}", request(t.key, theirs, path)))
    for header in ("X-Forwarded-Host", "X-Original-URL", "X-Model", "X-Berth-Endpoint", "X-Berth-Endpoint-Key"):
        value = f"{header}: {t.their_namespace}/{t.their_object}"
        found.append(Way(f"header {header}, its model", request(t.key, theirs, "/v1/completions", value)))
    found.append(
        Way("header X-Model, own model", request(t.key, ours, "/v1/completions", f"X-Model: {t.theirs}"), OURS)
    )
    return found


def _framing(t: Tenants) -> list[Way]:
    """Requests within requests."""
    theirs, ours = _completion(t.theirs), _completion(t.ours)
    smuggled = request(t.key, theirs)
    chunk = json.dumps(theirs).encode()
    chunked = f"POST /v1/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {t.key}\r\n"
    chunked += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    body = b"%x\r\n%b\r\n0\r\n" % (len(chunk), chunk)
    own = json.dumps(ours).encode()
    own_body = b"%x\r\n%b\r\n0\r\n" % (len(own), own)
    both = f"{chunked}Content-Length: {len(own)}\r\n\r\n".encode()
    last = f"{chunked}Connection: close\r\n\r\n".encode()
    return [
        Way("chunked", last + body + b"\r\n"),
        Way("a trailer, own model", last + own_body + f"model: {t.theirs}\r\n\r\n".encode(), OURS),
        Way("Content-Length and Transfer-Encoding", both + body + b"\r\n"),
        Way("two Content-Lengths", request(t.key, theirs, "/v1/completions", "Content-Length: 5")),
        Way("pipelined behind one for the own model", request(t.key, ours, last=False) + smuggled),
        Way(
            "pipelined behind a GET with a body",
            request(t.key, smuggled, "/v1/models", method="GET", last=False) + smuggled,
        ),
        Way("Upgrade", request(t.key, theirs, "/v1/completions", "Upgrade: h2c")),
        Way("HTTP/1.0", smuggled.replace(b"HTTP/1.1", b"HTTP/1.0")),
    ]


def _lists(t: Tenants) -> list[Way]:
    encoded = "".join(f"%{ord(letter):02x}" for letter in t.theirs)
    return [
        Way(f"GET {where} by {what}", request(t.key, None, path.replace("NAME", name), method="GET"))
        for where, path in (
            ("/v1/models", "/v1/models/NAME"),
            ("LLMEngine's endpoint", "/llm-engine/v1/llm/model-endpoints/NAME"),
            ("ScaleEGP's model", "/egp/v3/models/NAME"),
        )
        for what, name in (
            ("its name", t.theirs),
            ("encoded name", encoded),
            ("namespace/name", f"{t.their_namespace}/{t.their_object}"),
        )
    ]


def _operations(t: Tenants) -> list[Way]:
    """What an engine tells of itself, or does, without a model's name."""
    return [
        Way(f"{method} {path}, Host of its Service", request(t.key, None, path, host=t.their_service, method=method))
        for method, path in (
            ("GET", "/metrics"),
            ("GET", "/load"),
            ("GET", "/version"),
            ("GET", "/server_info"),
            ("GET", "/berth/info"),
            ("GET", "/progress"),
            ("GET", "/demand"),
            ("POST", "/sleep"),
            ("POST", "/reset_prefix_cache"),
        )
    ]
