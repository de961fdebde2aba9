"""The API server's refusal of a child, told in terms of the ModelEndpoint.

The texts are those of kube-apiserver 1.34 for a server-side apply of what Berth renders.
"""

from typing import NamedTuple

import pytest

from berth.api.conditions import Reason
from berth.decide.refused import refused

SPEC, TEMPLATE = Reason.INVALID_SPEC, Reason.INVALID_POD_TEMPLATE
TYPED = "failed to create typed patch object (team-a/demo; apps/v1, Kind=Deployment): "
INVALID = 'Deployment.apps "demo" is invalid: '
NO_FIELD = "is not a field of a pod template: remove it, or correct its name (kubectl explain pod.spec lists them)"


class Case(NamedTuple):
    name: str
    kind: str
    given: str
    reason: Reason
    expect: str


CASES = [
    Case("an unknown field of the pod", "Deployment",
         f"{TYPED}.spec.template.spec.nodeSelektor: field not declared in schema", TEMPLATE,
         f"spec.podTemplate.spec.nodeSelektor: {NO_FIELD}"),
    Case("an unknown field of the metadata", "Deployment",
         f"{TYPED}.spec.template.metadata.labelz: field not declared in schema", TEMPLATE,
         f"spec.podTemplate.metadata.labelz: {NO_FIELD}"),
    Case("an unknown field of a container", "Deployment",
         f'{TYPED}.spec.template.spec.containers[name="server"].imagee: field not declared in schema', TEMPLATE,
         f'spec.podTemplate.spec.containers[name="server"].imagee: {NO_FIELD}'),
    Case("an unknown field of a mount with blanks in its path", "Deployment",
         f'{TYPED}.spec.template.spec.containers[name="server"].volumeMounts[mountPath="/x y/z"].foo: '
         "field not declared in schema", TEMPLATE,
         f'spec.podTemplate.spec.containers[name="server"].volumeMounts[mountPath="/x y/z"].foo: {NO_FIELD}'),
    Case("an unknown field of a port, which has two keys", "Deployment",
         f'{TYPED}.spec.template.spec.containers[name="side"].ports[containerPort=1,protocol="TCP"].x: '
         "field not declared in schema", TEMPLATE,
         f'spec.podTemplate.spec.containers[name="side"].ports[containerPort=1,protocol="TCP"].x: {NO_FIELD}'),
    Case("a list instead of a map", "Deployment",
         f"{TYPED}.spec.template.spec.nodeSelector: expected map, got &{{[a]}}", TEMPLATE,
         "spec.podTemplate.spec.nodeSelector: expected map, got [a]"),
    Case("text instead of a truth value", "Deployment",
         f"{TYPED}.spec.template.spec.hostNetwork: expected boolean, got &{{yes}}", TEMPLATE,
         "spec.podTemplate.spec.hostNetwork: expected boolean, got yes"),
    Case("a number instead of text", "Deployment",
         f"{TYPED}.spec.template.spec.priorityClassName: expected string, got &value.valueUnstructured{{Value:5}}",
         TEMPLATE, "spec.podTemplate.spec.priorityClassName: expected string, got 5"),
    Case("the whole spec is a list", "Deployment", f"{TYPED}.spec.template.spec: expected map, got &{{[a]}}",
         TEMPLATE, "spec.podTemplate.spec: expected map, got [a]"),
    Case("a container that is no map", "Deployment",
         f"{TYPED}.spec.template.spec.containers: element 1: associative list with keys may not have non-map elements",
         TEMPLATE,
         "spec.podTemplate.spec.containers: element 1: associative list with keys may not have non-map elements"),
    Case("a variable twice", "Deployment",
         f'{TYPED}.spec.template.spec.containers[name="side"].env: duplicate entries for key [name="A"]', TEMPLATE,
         'spec.podTemplate.spec.containers[name="side"].env: duplicate entries for key [name="A"]'),
    Case("a value that pods cannot have", "Deployment",
         f'{INVALID}spec.template.spec.dnsPolicy: Unsupported value: "Nope": supported values: "ClusterFirst", "None"',
         TEMPLATE,
         'Kubernetes refuses the Deployment: spec.podTemplate.spec.dnsPolicy: Unsupported value: "Nope": supported '
         'values: "ClusterFirst", "None"'),
    Case("two faults at once", "Deployment",
         f'{INVALID}[spec.template.spec.a: Invalid value: "x", spec.template.spec.b: Required value]', TEMPLATE,
         'Kubernetes refuses the Deployment: [spec.podTemplate.spec.a: Invalid value: "x", '
         "spec.podTemplate.spec.b: Required value]"),
    Case("a label of the pod, in the API server's odd words", "Deployment",
         f'{INVALID}spec.template.labels: Invalid value: "b c": a valid label must be', TEMPLATE,
         'Kubernetes refuses the Deployment: spec.podTemplate.metadata.labels: Invalid value: "b c": '
         "a valid label must be"),
    Case("a request above its limit", "Deployment",
         f'{INVALID}spec.template.spec.containers[0].resources.requests: Invalid value: "2": must be less than or '
         "equal to cpu limit of 1", SPEC,
         'Kubernetes refuses the Deployment: spec.resources.requests: Invalid value: "2": must be less than or equal '
         "to cpu limit of 1"),
    Case("a sidecar's resources are the template's", "Deployment",
         f'{INVALID}spec.template.spec.containers[1].resources.requests: Invalid value: "2": x', TEMPLATE,
         'Kubernetes refuses the Deployment: spec.podTemplate.spec.containers[1].resources.requests: Invalid value: '
         '"2": x'),
    Case("a variable, whose index counts ours too", "Deployment",
         f"{INVALID}spec.template.spec.containers[0].env[12].valueFrom: Invalid value: \"\": may not be specified when "
         "`value` is not empty", SPEC,
         'Kubernetes refuses the Deployment: spec.server.env[].valueFrom: Invalid value: "": may not be specified when '
         "`value` is not empty"),
    Case("too much of a percentage", "Deployment",
         f'{INVALID}spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "150%": must not be greater than 100%',
         SPEC,
         'Kubernetes refuses the Deployment: spec.rollout.maxUnavailable: Invalid value: "150%": must not be greater '
         "than 100%"),
    Case("an annotation of the Service", "Service",
         'Service "demo" is invalid: metadata.annotations: Invalid value: "a b": name part must consist of', SPEC,
         'Kubernetes refuses the Service: spec.service.annotations: Invalid value: "a b": name part must consist of'),
    Case("a webhook's own words", "Deployment",
         'admission webhook "policy.corp" denied the request: no latest tag', SPEC,
         'Kubernetes refuses the Deployment: admission webhook "policy.corp" denied the request: no latest tag'),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(case: Case) -> None:
    assert refused(case.kind, case.given) == (case.reason, case.expect)
