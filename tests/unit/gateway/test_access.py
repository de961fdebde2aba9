"""Who a key belongs to, and what its owner may use.

Input: Secrets as the API server sends them, headers. Output: callers, refusals, and what is wrong with a Secret.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth_gateway.access import ANYBODY, Access, Caller, allows
from berth_gateway.table import Table
from tests.unit.gateway.objects import endpoint, secret


def digest(key: str) -> str:
    """As it stands in a Secret."""
    return hashlib.sha256(key.encode()).hexdigest()


def bearer(key: str) -> list[tuple[bytes, bytes]]:
    """Headers with a key, as the parser of requests makes them."""
    return [(b"host", b"x"), (b"authorization", b"Bearer " + key.encode())]


def access(**data: str) -> Access:
    """With one Secret."""
    found = Access()
    found.put_secret(secret("team", 0, **data))
    return found


def test_a_key_is_its_owners_in_every_form_that_clients_send() -> None:
    found = access(sha256=digest("k"), owner="team-a", namespaces="a", models="llama")
    caller = Caller("team-a", frozenset({"a"}), frozenset({"llama"}))
    basic = b"Basic " + b64encode(b"k:")
    for header in ((b"x-api-key", b"k"), (b"authorization", b"bearer k"), (b"authorization", basic)):
        assert found.caller([header]) == caller
    assert found.problems == {}


@pytest.mark.parametrize("key", ["", "K", "k ", "kk", digest("k")])
def test_nothing_else_is_a_key(key: str) -> None:
    found = access(sha256=digest("k"), namespaces="*")
    assert found.caller([(b"x-api-key", key.encode() + b"x")]) is None
    assert found.caller([(b"authorization", b"Digest " + key.encode())]) is None
    assert found.caller([(b"x-api-key", digest("k").encode())]) is None
    assert found.caller([]) is None


def test_every_line_is_a_digest_and_one_secret_may_have_many() -> None:
    found = access(sha256=f"\n  {digest('one').upper()}  \r\n\n{digest('two')}\n", namespaces="*")
    assert [found.caller(bearer(key)) is not None for key in ("one", "two", "three")] == [True, True, False]
    assert found.problems == {}


@pytest.mark.parametrize(
    ("text", "namespaces"),
    [
        ("a", {"a"}),
        ("a,b", {"a", "b"}),
        (" a , b\n c\t\n,", {"a", "b", "c"}),
        ("*", None),
        (" *\n", None),
    ],
)
def test_namespaces_are_listed_in_any_way(text: str, namespaces: Any) -> None:
    caller = access(sha256=digest("k"), namespaces=text).caller(bearer("k"))
    assert caller == Caller("team", namespaces, None)


@pytest.mark.parametrize(
    ("text", "models"), [("*", None), ("llama, a/qwen", {"llama", "a/qwen"}), ("", set()), ("  \n", set())]
)
def test_models_are_listed_in_any_way_and_none_are_none(text: str, models: Any) -> None:
    caller = access(sha256=digest("k"), namespaces="*", models=text).caller(bearer("k"))
    assert caller == Caller("team", None, models)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "namespaces must list"),
        ({"namespaces": ""}, "namespaces must list"),
        ({"namespaces": "a, *"}, "namespaces must list"),
        ({"namespaces": "team-*"}, "namespaces must list"),
        ({"namespaces": "A"}, "namespaces must list"),
        ({"namespaces": "a/b"}, "namespaces must list"),
        ({"namespaces": "a;b"}, "namespaces must list"),
        ({"namespaces": "a", "models": "*, llama"}, "models must list"),
        ({"namespaces": "a", "owner": "two words"}, "owner must be"),
        ({"namespaces": "a", "owner": 'x"y'}, "owner must be"),
        ({"namespaces": "a", "owner": "x" * 64}, "owner must be"),
    ],
)
def test_a_secret_that_does_not_say_whose_or_what_for_gives_nothing(data: dict[str, str], words: str) -> None:
    found = access(sha256=digest("k"), **data)
    assert found.caller(bearer("k")) is None
    assert words in found.problems["team"]
    assert "none of its keys is accepted" in found.problems["team"]


def test_a_wrong_line_is_told_by_its_number_and_the_others_hold() -> None:
    found = access(sha256=f"{digest('k')}\nmy-real-key\n{digest('l')}  -\n", namespaces="*")
    assert found.caller(bearer("k")) is not None
    assert found.caller(bearer("my-real-key")) is None
    problem = found.problems["team"]
    assert "line 2 " in problem
    assert "line 3 " in problem
    assert "my-real-key" not in problem


def test_a_secret_without_a_digest_is_told() -> None:
    assert "no digest" in access(namespaces="*").problems["team"]


def test_a_secret_with_bytes_that_are_no_text_is_told() -> None:
    found = Access()
    obj = secret("team", 0, namespaces="a")
    obj["data"]["sha256"] = b64encode(b"\xff\xfe").decode()
    found.put_secret(obj)
    assert "line 1 " in found.problems["team"]
    found.put_secret({"metadata": {"name": "empty"}})
    assert "empty" in found.problems


def test_a_change_takes_effect_at_once_and_what_is_mended_is_no_problem() -> None:
    found = access(sha256="x", namespaces="a")
    found.put_secret(secret("team", 0, sha256=digest("one"), namespaces="a"))
    assert found.problems == {}
    found.put_secret(secret("team", 0, sha256=digest("two"), namespaces="b"))
    assert found.caller(bearer("one")) is None
    assert found.caller(bearer("two")) == Caller("team", frozenset("b"), None)
    found.drop_secret("team")
    found.drop_secret("team")
    assert found.caller(bearer("two")) is None


SECRETS = st.builds(
    lambda name, at, keys, namespaces: secret(
        name, at, sha256="\n".join(digest(key) for key in keys), namespaces=namespaces
    ),
    st.sampled_from(["s", "t", "u"]),
    st.integers(0, 2),
    st.lists(st.sampled_from(["one", "two"])),
    st.sampled_from(["a", "b", "*", "?"]),
)


@given(st.lists(st.tuples(st.booleans(), SECRETS), max_size=12), st.randoms(use_true_random=False))
def test_any_order_of_changes_makes_the_keys_that_the_secrets_left_make(changes: list[Any], random: Any) -> None:
    found, left = Access(), {}
    for is_there, obj in changes:
        name = obj["metadata"]["name"]
        if is_there:
            found.put_secret(obj)
            left[name] = obj
        else:
            found.drop_secret(name)
            left.pop(name, None)
    fresh, objects = Access(), list(left.values())
    random.shuffle(objects)
    for obj in objects:
        fresh.put_secret(obj)
    assert found.problems == fresh.problems
    for key in ("one", "two"):
        assert found.caller(bearer(key)) == fresh.caller(bearer(key))


def test_a_key_in_two_secrets_is_the_older_ones() -> None:
    found = Access()
    found.put_secret(secret("a", 9, sha256=digest("k"), namespaces="*"))
    found.put_secret(secret("z", 3, sha256=digest("k"), namespaces="a"))
    assert found.caller(bearer("k")) == Caller("z", frozenset("a"), None)


def test_an_open_gateway_knows_nobody_and_allows_everything() -> None:
    found = Access(open=True)
    assert found.caller([]) == found.caller(bearer("anything")) == ANYBODY
    for each in table().endpoints():
        assert allows(ANYBODY, each)


# What a caller may use.


def table() -> Table:
    """Two teams. Both claim llama; team a had it first."""
    found = Table()
    for obj in (
        endpoint("a/llama", 1, "llama", "llama-latest"),
        endpoint("a/other", 1, "qwen"),
        endpoint("b/llama", 2, "llama", "own"),
    ):
        found.put_endpoint(obj)
    return found


def usable(namespaces: str, models: str) -> set[tuple[str, str]]:
    """What is found and allowed, of all names that there are: the name and the endpoint."""
    caller = access(sha256=digest("k"), namespaces=namespaces, models=models).caller(bearer("k"))
    assert caller is not None
    known = table()
    names = ("llama", "llama-latest", "qwen", "own", "a/llama", "a/other", "b/llama", "b/own", "a/qwen", "x")
    found = [(name, known.find(name)) for name in names]
    return {(name, each.key) for name, each in found if each is not None and allows(caller, each)}


A = {("llama", "a/llama"), ("llama-latest", "a/llama"), ("a/llama", "a/llama")}
OTHER = {("qwen", "a/other"), ("a/other", "a/other")}
B = {("own", "b/llama"), ("b/llama", "b/llama")}


@pytest.mark.parametrize(
    ("namespaces", "models", "expected"),
    [
        ("*", "*", A | OTHER | B),
        ("a", "*", A | OTHER),
        ("b", "*", B),
        ("c", "*", set()),
        ("a,b", "*", A | OTHER | B),
        ("a", "llama", A),
        # The name is another team's: theirs may not be used, and the own one does not have it.
        ("b", "llama", set()),
        ("b", "own", B),
        ("b", "b/llama", B),
        ("a", "b/llama", set()),
        ("*", "llama", A),
        ("*", "qwen,own", OTHER | B),
        ("a", "llama-latest", A),
        ("a", "LLAMA", set()),
        ("a", "", set()),
        ("a", "a", set()),
    ],
)
def test_a_caller_may_use_what_both_lists_allow(namespaces: str, models: str, expected: Any) -> None:
    assert usable(namespaces, models) == expected


def test_a_name_with_a_vendor_in_front_is_allowed_as_the_name_itself() -> None:
    caller = Caller("x", frozenset("a"), frozenset({"llama"}))
    found = table().find("meta/llama", vendor=True)
    assert found is not None
    assert found.key == "a/llama"
    assert allows(caller, found)
    assert not allows(caller._replace(models=frozenset({"meta"})), found)
    # What is before the name may be the namespace of an endpoint that is gone, and this is another team's.
    assert not allows(caller._replace(models=frozenset({"meta/llama"})), found)


def test_a_grant_follows_the_name_when_its_holder_goes() -> None:
    caller, known = Caller("x", None, frozenset({"llama"})), table()
    known.drop_endpoint("a", "llama")
    found = known.find("llama")
    assert found is not None
    assert found.key == "b/llama"
    assert allows(caller, found)
