"""Certificate authorities, certificates and kubeconfig files of a local cluster."""

import base64
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = timedelta(days=3650)
_CLOCK_SKEW = timedelta(hours=1)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority with its own self-signed root, in `<stem>.crt` and `<stem>.key`."""

    def __init__(self, stem: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"berth-local-{stem.name}")
        certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pair = _write(stem, certificate, self._key)

    def issue(self, stem: Path, name: str, groups: Iterable[str] = (), hosts: Iterable[str] = ()) -> KeyPair:
        """A certificate for client and server use.

        name, groups: the Kubernetes user and its groups.  hosts: IP addresses and DNS names it serves.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(name, groups), self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
        )
        if alternatives := [_general_name(host) for host in hosts]:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return _write(stem, builder.sign(self._key, hashes.SHA256()), key)


def write_signing_key(path: Path) -> None:
    """The RSA key that signs service-account tokens."""
    write_private(path, _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))


def kubeconfig(url: str, authority: Path, user: KeyPair | str, namespace: str = "default") -> str:
    """The text of a kubeconfig file that needs no other file.

    url: of the API server.  authority: PEM file that signed its certificate.
    user: client certificate, or a bearer token.
    """
    credentials = (
        {"token": user}
        if isinstance(user, str)
        else {
            "client-certificate-data": base64_of(user.certificate),
            "client-key-data": base64_of(user.key),
        }
    )
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "berth-local", "cluster": {"server": url, "certificate-authority-data": base64_of(authority)}}
        ],
        "users": [{"name": "berth-local", "user": credentials}],
        "contexts": [
            {
                "name": "berth-local",
                "context": {"cluster": "berth-local", "user": "berth-local", "namespace": namespace},
            }
        ],
        "current-context": "berth-local",
    }
    return yaml.safe_dump(config, sort_keys=False)


def write_private(path: Path, content: str | bytes) -> None:
    """Writes a file that only its owner may read, and never anybody else in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600, exist_ok=False)
    unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
    unfinished.rename(path)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
    )


def _name(common_name: str, organizations: Iterable[str] = ()) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations]
        + [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(stem: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    pair = KeyPair(stem.with_name(f"{stem.name}.crt"), stem.with_name(f"{stem.name}.key"))
    write_private(pair.key, _pem(key))
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return pair


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def base64_of(path: Path) -> str:
    """The contents of a file, as kubeconfig files and caBundle fields want them."""
    return base64.b64encode(path.read_bytes()).decode()
