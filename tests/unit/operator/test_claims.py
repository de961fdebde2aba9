"""Who has which name at the gateway, and what the others say about it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from berth.api.names import Key
from berth.decide.claims import claimed, without_effect
from berth.kube.claims import Claims
from tests.builders import endpoint, parsed

KEYS = [Key(namespace, name) for namespace in ("a", "b") for name in ("x", "y")]
STEPS = st.lists(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(["1", "2", "3"]), st.lists(st.sampled_from("pqr"), unique=True)),
    max_size=30,
)


def holders(told: dict[Key, tuple[str, tuple[str, ...]]]) -> dict[str, Key]:
    """Written down anew, from everything."""
    found: dict[str, tuple[str, Key]] = {}
    for key, (created, names) in told.items():
        for name in names:
            found[name] = min(found.get(name, (created, key)), (created, key))
    return {name: key for name, (_, key) in found.items()}


@given(STEPS)
def test_the_oldest_has_a_name_and_who_else_learns_of_it_is_told(steps: list[tuple[Key, str, list[str]]]) -> None:
    claims, told = Claims(), dict[Key, tuple[str, tuple[str, ...]]]()
    for key, created, names in steps:
        before = {each: {n: h for n in told[each][1] if (h := holders(told)[n]) != each} for each in told}
        concerned = claims.put(key, created, tuple(names))
        told[key] = created, tuple(names)
        if not names:
            del told[key]
        assert key not in concerned
        now = holders(told)
        for each, (_, own) in told.items():
            expect = {name: now[name] for name in own if now[name] != each}
            assert claims.held_by_others(each) == expect
            if each != key and expect != before.get(each):
                assert each in concerned


def test_nobody_is_told_of_a_younger_one_that_comes_or_goes() -> None:
    claims = Claims()
    for number, key in enumerate(KEYS):
        assert claims.put(key, str(number), ("p",)) == set()
    assert claims.put(KEYS[2], "2", ()) == set()
    assert claims.put(KEYS[0], "0", ()) == {KEYS[1], KEYS[3]}
    assert claims.held_by_others(KEYS[3]) == {"p": KEYS[1]}
    assert claims.held_by_others(KEYS[0]) == {}


def test_names_are_those_of_the_gateway() -> None:
    assert claimed(endpoint("demo", model={"source": "pvc://a/b"})) == ("demo",)
    assert claimed(endpoint("demo", model={"source": "hf://org/m"})) == ("demo", "org/m")
    assert claimed(endpoint("demo", model={"source": "hf://org/m", "servedNames": ["a", "org/m"]})) == ("a", "org/m")
    for model in ({"source": "pvc://a/b"}, {"source": "hf://org/m"}, {"source": "hf://o/m", "servedNames": ["b", "a"]}):
        assert list(claimed(endpoint("demo", model=model))) == parsed("demo", model=model).served_names


def said(**model: Any) -> list[tuple[str, str]]:
    ep = parsed("demo", model={"source": "hf://org/m", **model})
    found = without_effect(ep, dict.fromkeys(ep.served_names, Key("team-b", "older")))
    return [(entry["field"], entry["why"]) for entry in found]


def test_the_field_that_the_name_comes_from_is_said() -> None:
    why = (
        "through the gateway demo is team-b/older, which is older and holds that name; this endpoint is reachable "
        "there as team-a/demo"
    )
    assert said()[0] == ("metadata.name", why)
    assert [field for field, _ in said()] == ["metadata.name", "spec.model.source"]
    assert [field for field, _ in said(servedNames=["a"])] == ["spec.model.servedNames[a]", "spec.model.source"]
    assert without_effect(parsed("demo"), {}) == []
