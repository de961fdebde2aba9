"""The cache: nothing older replaces something newer, no ghosts, and what counts as news."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.api.names import DELETION_COST, Key
from berth.desired.children import children
from berth.kube.cache import Cache, endpoint_key, service_key, trim
from berth.kube.resources import DEPLOYMENTS, ENDPOINTS, PODS, SERVICES, SLICES
from tests.builders import NAMESPACE, PLATFORM, T0, endpoint, live, parsed, pod

Object = dict[str, Any]
KEY = Key(NAMESPACE, "demo")


def seen(version: int, uid: str = "one", name: str = "demo", **spec: Any) -> Object:
    """A ModelEndpoint as of a resourceVersion."""
    found = endpoint(name, uid=uid, **spec)
    found["metadata"]["resourceVersion"] = str(version)
    return found


def get(cache: Cache) -> Object | None:
    return cache.get(ENDPOINTS, NAMESPACE, "demo")


def version(cache: Cache) -> str:
    found = get(cache)
    assert found is not None
    return str(found["metadata"]["resourceVersion"])


def test_a_first_sight_is_news() -> None:
    cache = Cache()
    assert cache.put(ENDPOINTS, seen(1))
    assert get(cache) is not None
    assert list(cache.endpoints()) == [KEY]
    assert cache.count(ENDPOINTS) == 1


def test_a_newer_one_with_other_content_is_news() -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(1))
    assert cache.put(ENDPOINTS, seen(2, replicas=2))
    assert version(cache) == "2"


def test_a_newer_one_with_the_same_content_is_kept_and_no_news() -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(1))
    assert not cache.put(ENDPOINTS, seen(2))
    assert version(cache) == "2"


def test_managed_fields_are_no_news() -> None:
    cache, later = Cache(), seen(2)
    cache.put(ENDPOINTS, seen(1))
    later["metadata"]["managedFields"] = [{"manager": "x"}]
    assert not cache.put(ENDPOINTS, later)


@pytest.mark.parametrize("old", [1, 2])
def test_an_older_or_equal_one_is_ignored(old: int) -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(2))
    assert not cache.put(ENDPOINTS, seen(old, replicas=9))
    assert version(cache) == "2"


def test_versions_are_numbers_not_texts() -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(9))
    assert cache.put(ENDPOINTS, seen(10, replicas=2))
    assert version(cache) == "10"


def test_an_object_made_again_under_the_same_name_replaces_the_old_one() -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(5, uid="one"))
    assert cache.put(ENDPOINTS, seen(7, uid="two"))
    assert version(cache) == "7"


def test_late_news_of_the_old_one_do_not_replace_the_object_made_again() -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(7, uid="two"))
    assert not cache.put(ENDPOINTS, seen(6, uid="one"))
    assert version(cache) == "7"


def test_the_late_end_of_the_old_one_does_not_end_the_object_made_again() -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(7, uid="two"))
    assert not cache.drop(ENDPOINTS, seen(6, uid="one"))
    assert version(cache) == "7"


def test_what_was_deleted_is_gone() -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(1))
    assert cache.drop(ENDPOINTS, seen(2))
    assert get(cache) is None
    assert not cache.drop(ENDPOINTS, seen(2))


def test_what_was_deleted_does_not_come_back_with_an_older_sight_of_it() -> None:
    """The answer to a write, or a page of a list, may arrive after the end of the object did."""
    cache = Cache()
    cache.put(ENDPOINTS, seen(1))
    cache.drop(ENDPOINTS, seen(5))
    assert not cache.put(ENDPOINTS, seen(4, replicas=2))
    assert get(cache) is None


def test_what_was_deleted_before_it_was_ever_seen_does_not_come_back() -> None:
    cache = Cache()
    cache.drop(ENDPOINTS, seen(5))
    assert not cache.put(ENDPOINTS, seen(4))
    assert get(cache) is None


def test_what_lost_the_watched_label_and_has_it_again_comes_back() -> None:
    """A watch with a selector tells the first as a deletion, and the second as an addition."""
    cache = Cache()
    cache.put(PODS, pod(version=1))
    cache.drop(PODS, pod(version=2))
    assert cache.put(PODS, pod(version=3))
    assert len(cache.of(PODS, KEY)) == 1


def test_a_list_drops_ghosts_and_says_whose_they_were() -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(1))
    cache.put(ENDPOINTS, seen(2, name="other", uid="two"))
    assert cache.replace(ENDPOINTS, [seen(2, name="other", uid="two")], "9") == {KEY}
    assert list(cache.endpoints()) == [Key(NAMESPACE, "other")]


def test_a_list_without_news_is_none() -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(1))
    assert cache.replace(ENDPOINTS, [seen(1)], "9") == set()


def test_a_list_brings_what_was_missed() -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(1))
    assert cache.replace(ENDPOINTS, [seen(2, replicas=3)], "9") == {KEY}
    assert version(cache) == "2"


def test_what_is_newer_than_the_list_stays() -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(12))
    assert cache.replace(ENDPOINTS, [], "11") == set()
    assert get(cache) is not None


def test_what_is_as_old_as_the_list_and_not_in_it_is_gone() -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(9))
    assert cache.replace(ENDPOINTS, [], "9") == {KEY}


def test_a_list_older_than_an_end_does_not_bring_the_object_back() -> None:
    cache = Cache()
    cache.put(ENDPOINTS, seen(1))
    cache.drop(ENDPOINTS, seen(12))
    assert cache.replace(ENDPOINTS, [seen(1)], "9") == set()
    assert get(cache) is None


def test_ends_are_remembered_no_longer_than_until_the_next_list() -> None:
    cache = Cache()
    for i in range(100):
        cache.drop(ENDPOINTS, seen(i, uid=str(i)))
    cache.replace(ENDPOINTS, [], "200")
    assert not cache._ended[ENDPOINTS.kind]


def test_kinds_do_not_mix() -> None:
    cache = Cache()
    found = live(children(parsed(), PLATFORM)[0])
    cache.put(DEPLOYMENTS, found)
    cache.replace(SERVICES, [], "99")
    assert cache.get(DEPLOYMENTS, NAMESPACE, "demo") is not None
    assert cache.get(SERVICES, NAMESPACE, "demo") is None


EVENTS = st.lists(st.tuples(st.sampled_from(["one", "two"]), st.integers(1, 9), st.booleans()), max_size=12)


@given(EVENTS)
def test_the_newest_sight_wins_in_whatever_order_they_come(events: list[tuple[str, int, bool]]) -> None:
    """One object at a time: uid `one` has the versions up to 4, `two`, made afterwards, those from 5 on."""
    cache = Cache()
    for uid, number, _ in events:
        cache.put(ENDPOINTS, seen(number + (4 if uid == "two" else 0) if uid == "two" else min(number, 4), uid=uid))
    if events:
        newest = max((uid == "two", number if uid == "two" else min(number, 4)) for uid, number, _ in events)
        assert version(cache) == str(newest[1] + 4 if newest[0] else newest[1])


def test_pods_are_found_by_their_endpoint() -> None:
    cache = Cache()
    cache.put(PODS, pod("a"))
    cache.put(PODS, pod("b"))
    cache.put(PODS, pod("c", endpoint="other"))
    assert {found["metadata"]["name"] for found in cache.of(PODS, KEY)} == {"a", "b"}
    cache.drop(PODS, pod("a", version=2))
    assert {found["metadata"]["name"] for found in cache.of(PODS, KEY)} == {"b"}
    cache.replace(PODS, [], "9")
    assert cache.of(PODS, KEY) == ()


def test_a_name_is_held_only_where_the_gateway_serves() -> None:
    told = list[Key]()
    cache = Cache(on_holder=told.append, serves=lambda namespace: namespace != "b")
    model = {"source": "pvc://a/b", "servedNames": ["llama"]}
    for version, (namespace, created) in enumerate((("b", "1"), ("c", "2"), ("a", "3"))):
        found = seen(version + 1, uid=namespace, namespace=namespace, model=model)
        found["metadata"]["creationTimestamp"] = created
        cache.put(ENDPOINTS, found)
    held = [cache.held_by_others(Key(namespace, "demo")) for namespace in ("a", "b", "c")]
    assert held == [{"llama": Key("c", "demo")}, {}, {}]
    assert told == []


def test_a_pod_that_was_given_to_another_endpoint_is_no_longer_ours() -> None:
    cache = Cache()
    cache.put(PODS, pod("a"))
    assert cache.put(PODS, pod("a", endpoint="other", version=2))
    assert cache.of(PODS, KEY) == ()
    assert len(cache.of(PODS, Key(NAMESPACE, "other"))) == 1


def test_a_pod_that_lost_its_label_is_nobody_s() -> None:
    cache = Cache()
    cache.put(PODS, pod("a"))
    cache.put(PODS, pod("a", labels={"app.kubernetes.io/managed-by": "berth"}, version=2))
    assert cache.of(PODS, KEY) == ()


def test_pods_keep_what_decisions_need_and_nothing_else() -> None:
    needed = pod(reason="Evicted", message="x", podIP="10.0.0.1", containers=[{"name": "server"}], init=[{"name": "i"}])
    needed["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z"
    needed["metadata"]["annotations"] = {DELETION_COST: "-1"}
    needed["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    needed["status"]["conditions"][0]["lastTransitionTime"] = "2026-01-02T03:05:05Z"
    whole = copy.deepcopy(needed)
    whole["metadata"] |= {"managedFields": [1], "annotations": {"a": "b", DELETION_COST: "-1"}, "ownerReferences": [1]}
    whole["spec"]["containers"][0] |= {"image": "x", "env": [{"name": "TOKEN", "value": "secret"}]}
    whole["status"] |= {"qosClass": "x", "podIPs": []}
    whole["status"]["conditions"][0]["lastProbeTime"] = None
    whole["status"]["conditions"].append({"type": "Initialized", "status": "True"})
    del needed["apiVersion"]
    assert trim(PODS, whole) == needed


def leaving(version: int, **status: Any) -> Object:
    found = pod(version=version, **status)
    found["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    return found


def test_that_a_pod_leaves_is_news_how_and_when_it_is_gone_is_not() -> None:
    cache = Cache()
    cache.put(PODS, pod(version=1))
    assert cache.put(PODS, leaving(2))
    assert not cache.put(PODS, leaving(3, ready=False, phase="Succeeded"))
    assert not cache.drop(PODS, leaving(4))
    assert cache.of(PODS, KEY) == ()


def deployment(version: int, **given: Any) -> Object:
    """A live Deployment. given: fields of status; annotations."""
    found = live(children(parsed(), PLATFORM)[0])
    found["metadata"] |= {"resourceVersion": str(version), "generation": 1}
    found["metadata"]["annotations"] |= given.pop("annotations", {})
    return {**found, "status": {"observedGeneration": 1, "replicas": 1, "conditions": [], **given}}


@pytest.mark.parametrize(
    ("now", "news"),
    [
        ({"readyReplicas": 1}, True),
        ({"updatedReplicas": 1}, True),
        ({"replicas": 2}, True),
        ({"observedGeneration": 2}, True),
        ({"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "quota"}]}, True),
        ({"annotations": {"example.com/by": "them"}}, True),
        ({"conditions": [{"type": "Progressing", "status": "True"}]}, False),
        ({"availableReplicas": 1, "unavailableReplicas": 1}, False),
        ({"annotations": {"deployment.kubernetes.io/revision": "2"}}, False),
    ],
)
def test_of_a_deployment_s_status_what_decisions_read_is_news(now: Object, news: bool) -> None:
    cache = Cache()
    cache.put(DEPLOYMENTS, deployment(1))
    assert cache.put(DEPLOYMENTS, deployment(2, **now)) is news


def test_of_other_children_no_status_is_news_and_any_field_of_spec_is() -> None:
    cache, found = Cache(), live(children(parsed(), PLATFORM)[1])
    found["metadata"]["resourceVersion"] = "1"
    cache.put(SERVICES, found)
    later = {**copy.deepcopy(found), "status": {"loadBalancer": {"ingress": []}}}
    later["metadata"]["resourceVersion"] = "2"
    assert not cache.put(SERVICES, later)
    edited = copy.deepcopy(later)
    edited["metadata"]["resourceVersion"] = "3"
    edited["spec"]["sessionAffinity"] = "ClientIP"
    assert cache.put(SERVICES, edited)


def test_whose_an_object_is() -> None:
    found = live(children(parsed(), PLATFORM)[0])
    assert endpoint_key(endpoint()) == KEY
    assert endpoint_key(found) == KEY
    found["metadata"]["labels"] = None
    assert endpoint_key(found) is None


def slice_of(version: int, *ready: bool, controllers: bool = True, service: str = "demo") -> Object:
    """An EndpointSlice with so many pods."""
    by = "endpointslice-controller.k8s.io" if controllers else "berth.dev"
    labels = {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": by}
    meta = {"name": "demo-x", "namespace": NAMESPACE, "uid": "s", "resourceVersion": str(version)}
    meta |= {"generation": version, "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": str(version)}}
    return {
        "metadata": {**meta, "labels": {**labels, "berth.dev/endpoint": "demo"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [f"10.0.0.{n}"], "conditions": {"ready": is_}} for n, is_ in enumerate(ready)],
        "ports": [{"name": "http", "port": 8000}],
    }


def test_of_the_controller_s_slices_only_whether_a_pod_is_ready_is_news() -> None:
    cache = Cache()
    assert cache.put(SLICES, slice_of(1))
    assert not cache.put(SLICES, slice_of(2, False))
    assert cache.put(SLICES, slice_of(3, False, True))
    assert not cache.put(SLICES, slice_of(4, True, True))
    assert cache.put(SLICES, slice_of(5, False))
    assert [found["endpoints"] for found in cache.of(SLICES, KEY)] == [[]]


def test_of_berth_s_own_slices_every_address_is_kept() -> None:
    cache = Cache()
    cache.put(SLICES, slice_of(1, True, controllers=False))
    assert cache.put(SLICES, slice_of(2, True, True, controllers=False))
    (found,) = cache.of(SLICES, KEY)
    assert [each["addresses"] for each in found["endpoints"]] == [["10.0.0.0"], ["10.0.0.1"]]
    assert list(cache.every(SLICES)) == [found]


def test_who_follows_a_kind_is_told_of_each_object_as_it_is_and_with_its_age() -> None:
    cache, told = Cache(), []
    first = slice_of(1, True, controllers=False)
    first["metadata"]["creationTimestamp"] = T0
    cache.put(SLICES, first)
    cache.follow(SLICES, lambda name, found: told.append((name, found and len(found["endpoints"]))))
    cache.put(SLICES, slice_of(3, True, True, controllers=False))
    cache.put(SLICES, slice_of(2, controllers=False))
    cache.put(PODS, seen(4))
    cache.drop(SLICES, slice_of(5, controllers=False))
    name = (NAMESPACE, "demo-x")
    assert told == [(name, 1), (name, 2), (name, None)]
    cache.put(SLICES, {**first, "metadata": first["metadata"] | {"resourceVersion": "6"}})
    assert cache.get(SLICES, *name)["metadata"]["creationTimestamp"] == T0  # type: ignore[index]


def test_slices_of_the_gateway_are_found_by_its_service_with_all_that_they_say() -> None:
    cache, resource = Cache(key_of=service_key), SLICES._replace(selector="kubernetes.io/service-name=gateway")
    assert cache.replace(resource, [slice_of(1, True, service="gateway")], "1") == {Key(NAMESPACE, "gateway")}
    (found,) = cache.of(resource, Key(NAMESPACE, "gateway"))
    assert found["endpoints"][0]["addresses"] == ["10.0.0.0"]
    assert cache.has_kind(resource)


def test_who_gets_or_loses_a_name_by_another_endpoint_is_told() -> None:
    told: list[Key] = []
    cache = Cache(on_holder=told.append)
    older, younger = Key(NAMESPACE, "older"), Key(NAMESPACE, "younger")

    def put(name: str, created: str, version: int, **spec: Any) -> None:
        found = seen(version, name, name, **spec)
        found["metadata"]["creationTimestamp"] = created
        cache.put(ENDPOINTS, found)

    put("younger", "2026-01-02T00:00:00Z", 1, model={"source": "hf://org/m"})
    put("older", "2026-01-01T00:00:00Z", 2, model={"source": "hf://org/m"})
    assert (told, cache.held_by_others(younger)) == ([younger], {"org/m": older})
    assert cache.held_by_others(older) == {}
    told.clear()
    put("younger", "2026-01-02T00:00:00Z", 3, model={"source": "hf://org/m", "servedNames": ["n"]})
    put("younger", "2026-01-02T00:00:00Z", 4, model={"source": "hf://org/m", "servedNames": ["n"]}, replicas=2)
    assert told == []
    put("older", "2026-01-01T00:00:00Z", 5, model={"source": "hf://org/other"})
    assert (told, cache.held_by_others(younger)) == ([younger], {})
    told.clear()
    put("older", "2026-01-01T00:00:00Z", 6, model={"source": "hf://org/m"})
    told.clear()
    cache.drop(ENDPOINTS, seen(7, "older", "older"))
    assert (told, cache.held_by_others(younger)) == ([younger], {})
