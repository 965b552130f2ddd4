"""TLS certificates for bodies: self-signed ones, and those of an authority that a client may trust."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=365)
AUTHORITY_LIFETIME = timedelta(days=3650)
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def self_signed(host: str) -> tuple[bytes, bytes]:
    """A certificate for `host` and its private key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = _builder(_name(host), _name(host), key, LIFETIME).add_extension(_alternatives([host]), critical=False)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), _pem(key)


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its common name, certificate and private key, both PEM."""

    name: str
    certificate: bytes
    key: bytes

    @classmethod
    def create(cls, name: str) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = (
            _builder(_name(name), _name(name), key, AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(name, made.public_bytes(serialization.Encoding.PEM), _pem(key))

    def issue(self, names: list[str]) -> tuple[bytes, bytes]:
        """A server's certificate for host names (the first is the common name) and its private key, both PEM."""
        own = serialization.load_pem_private_key(self.key, password=None)
        if not isinstance(own, PrivateKey):
            raise TypeError("an authority's key is an elliptic curve's or RSA's")
        issuer = x509.load_pem_x509_certificate(self.certificate)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        made = (
            _builder(_name(names[0]), issuer.subject, key, LIFETIME)
            .add_extension(_alternatives(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own.public_key()), critical=False)
            .sign(own, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM), _pem(key)


def _builder(subject: x509.Name, issuer: x509.Name, key: PrivateKey, lifetime: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + lifetime)
    )


def _name(host: str) -> x509.Name:
    # A common name holds 64 characters at most (RFC 5280); clients look at the alternative name.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])


def _alternatives(names: list[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_alternative(name) for name in names])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
