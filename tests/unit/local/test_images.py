"""Names of the local images, and what reaches a build from the machine's package settings. No container is made."""

import pytest

from local import images
from local.builder import package_index_settings
from local.errors import LocalError


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(images.digest({"a": b"1", "b": b"3"}, "base:1"), id="a file's contents"),
        pytest.param(images.digest({"a": b"1", "c": b"2"}, "base:1"), id="a file's name"),
        pytest.param(images.digest({"a": b"1"}, "base:1"), id="a file less"),
        pytest.param(images.digest({"a": b"1", "b": b"2"}, "base:2"), id="the base"),
        pytest.param(images.digest({"a": b"1", "b": b"2"}, "base:", "1"), id="where one input ends"),
    ],
)
def test_a_tag_changes_with(other: str) -> None:
    assert images.digest({"a": b"1", "b": b"2"}, "base:1") != other


def test_a_tag_does_not_depend_on_the_order_of_files() -> None:
    assert images.digest({"a": b"1", "b": b"2"}) == images.digest({"b": b"2", "a": b"1"})


@pytest.mark.parametrize("name", ["base", "operator", "server", "gateway", "vllm-cpu"])
def test_a_reference_is_local_and_pinned(name: str) -> None:
    repository, tag = images.reference(name).split(":")
    assert repository == f"localhost/berth-{name}"
    assert len(tag) == 12
    assert tag == images.reference(name).split(":")[1]


def test_an_unknown_image_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(LocalError, match="no such image: gpu; there are base, operator, server, gateway, vllm-cpu"):
        images.reference("gpu")


@pytest.mark.parametrize(
    ("environment", "pip_config", "expected"),
    [
        pytest.param({}, "", set(), id="nothing is set"),
        pytest.param(
            {},
            "global.index-url='https://mirror.example/simple'\nglobal.cert='/home/me/ca.pem'\n",
            {
                "export PIP_INDEX_URL=https://mirror.example/simple",
                "export UV_DEFAULT_INDEX=https://mirror.example/simple",
            },
            id="pip's index serves uv too, paths of this machine stay out",
        ),
        pytest.param(
            {},
            ":env:.index-url='https://a.example'\nglobal.index-url='https://b.example'\n",
            {"export PIP_INDEX_URL=https://a.example", "export UV_DEFAULT_INDEX=https://a.example"},
            id="the environment goes before pip's files",
        ),
        pytest.param(
            {"UV_DEFAULT_INDEX": "https://uv.example", "HOME": "/root"},
            "global.index-url='https://pip.example'\n",
            {"export PIP_INDEX_URL=https://pip.example", "export UV_DEFAULT_INDEX=https://uv.example"},
            id="uv's own index goes before pip's",
        ),
        pytest.param(
            {},
            "global.index-url='https://me:it$(s)@mirror.example'\n",
            {
                "export PIP_INDEX_URL='https://me:it$(s)@mirror.example'",
                "export UV_DEFAULT_INDEX='https://me:it$(s)@mirror.example'",
            },
            id="a shell reads back what was set",
        ),
    ],
)
def test_package_index_settings(environment: dict[str, str], pip_config: str, expected: set[str]) -> None:
    certificates = {
        "export PIP_CERT=/etc/ssl/certs/ca-certificates.crt",
        "export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
    }
    assert set(package_index_settings(environment, pip_config).splitlines()) == expected | certificates
