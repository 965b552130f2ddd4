"""Certificate Manager whose certificates are real: imported ones as they came, requested ones signed by the twin's authority.

The authority is part of ACM's own records. Its certificate, which clients must trust, is in `certificate-authority.pem` in
the twin's state folder. There is no validation of domains: a requested certificate is issued a moment later.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from moto.acm import models
from moto.acm.responses import AWSCertificateManagerResponse
from moto.core.exceptions import AWSError
from moto.core.utils import utcnow

from twin.bodies.certificates import Authority
from twin.region.patch import add, replace, wrap
from twin.region.region import Region

ISSUED_AFTER_SECONDS = 1


@dataclass(frozen=True)
class Material:
    """A certificate's PEM parts. `issued` is whether it may be used."""

    certificate: bytes
    chain: bytes
    key: bytes
    issued: bool

    @property
    def pem(self) -> bytes:
        return b"\n".join(part.strip() for part in (self.certificate, self.chain, self.key) if part.strip()) + b"\n"

    @property
    def fingerprint(self) -> str:
        """SHA-1 over the certificate, in upper case hex, as HAProxy logs it."""
        der = x509.load_pem_x509_certificate(self.certificate).public_bytes(serialization.Encoding.DER)
        return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()


def find_certificate(region: Region, arn: str) -> Material | None:
    """A certificate of ACM or IAM."""
    bundle = region.backend("acm")._certificates.get(arn)
    if bundle is not None:
        bundle.check()
        chain = bundle.chain.replace(models.AWS_ROOT_CA, b"")
        return Material(bundle.cert, chain, bundle.key, bundle.status == "ISSUED")
    if ":iam:" in arn:
        stored = region.backend("iam").get_certificate_by_arn(arn)
        if stored is not None:
            return Material(stored.cert_body.encode(), (stored.cert_chain or "").encode(), stored.private_key.encode(), True)
    return None


def users_of(region: Region, arn: str) -> list[str]:
    """ARNs of the load balancers whose listeners have the certificate."""
    balancers = region.backend("elbv2").load_balancers.values()
    return [
        balancer.arn for balancer in balancers if any(arn in listener.certificates for listener in balancer.listeners.values())
    ]


def authority(region: Region) -> Authority:
    """The region's certificate authority, made with the first certificate that needs it."""
    backend = region.backend("acm")
    found: Authority | None = vars(backend).get("twin_authority")
    if found is None:
        found = backend.twin_authority = Authority.create(f"Twin of AWS, {region.settings.region}")
    path = region.settings.state / "certificate-authority.pem"
    if not path.exists() or path.read_bytes() != found.certificate:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(found.certificate)
    return found


def install(region: Region) -> None:
    bundle = models.CertBundle
    backend = models.AWSCertificateManagerBackend
    _install_state()

    @wrap(backend, "request_certificate")
    def request_certificate(original: Any, self: Any, domain_name: str, *args: Any, **options: Any) -> Any:
        known = set(self._certificates)
        arn = original(self, domain_name, *args, **options)
        made = self._certificates[arn]
        if arn not in known and made.type == "AMAZON_ISSUED":
            _sign(authority(region), made)
        return arn

    @wrap(AWSCertificateManagerResponse, "request_certificate")
    def request(original: Any, self: Any) -> Any:
        algorithm = self._get_param("KeyAlgorithm") or "RSA_2048"
        if algorithm != "RSA_2048":
            raise AWSError(f"The key algorithm {algorithm} is not supported by the twin.", exception_type="ValidationException")
        if self._get_param("CertificateAuthorityArn"):
            raise AWSError("Private certificates are not supported by the twin.", exception_type="ValidationException")
        return original(self)

    @replace(bundle, "check")
    def check(self: Any) -> None:
        now = utcnow()
        if self._not_valid_after(self._cert) <= now:
            self.status = "EXPIRED"
        elif self.status == "PENDING_VALIDATION" and (now - self.created_at).total_seconds() >= ISSUED_AFTER_SECONDS:
            self.status = "ISSUED"

    @wrap(bundle, "describe")
    def describe(original: Any, self: Any) -> Any:
        described = original(self)
        certificate = described["Certificate"]
        # moto keeps them as a set, whose order is another one each time.
        options = certificate.get("DomainValidationOptions")
        if options:
            order = [self.common_name, *self.sans]
            options.sort(key=lambda option: order.index(option["DomainName"]))
        if self.type != "IMPORTED" and self.status == "PENDING_VALIDATION":
            certificate.pop("IssuedAt", None)
        return described

    @wrap(backend, "delete_certificate")
    def delete_certificate(original: Any, self: Any, arn: str) -> Any:
        if users_of(region, arn):
            raise AWSError(f"Certificate {arn} is in use.", exception_type="ResourceInUseException")
        return original(self, arn)

    def in_use_by(self: Any) -> list[str]:
        """moto only ever adds to this list."""
        return users_of(region, self.arn)

    def ignore(self: Any, arns: list[str]) -> None:
        """moto's constructor sets the list."""

    bundle.in_use_by = property(in_use_by, ignore)  # type: ignore[assignment]


def _install_state() -> None:
    """cryptography's objects can't be pickled; they are made anew from the PEM that is kept beside them."""

    @add(models.CertBundle, "__getstate__")
    def getstate(self: Any) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_key", "_cert")}

    @add(models.CertBundle, "__setstate__")
    def setstate(self: Any, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._key = serialization.load_pem_private_key(self.key, password=None)
        self._cert = x509.load_pem_x509_certificate(self.cert)


def _sign(signer: Authority, made: Any) -> None:
    """Put a certificate of the authority in the place of the one that moto made up, whose signature holds for nothing."""
    names = [made.common_name, *(name for name in made.sans if name != made.common_name)]
    made.cert, made.key = signer.issue([re.sub(r"\s", "", name) for name in names])
    made.chain = signer.certificate
    made._key = made.validate_pk()
    made._cert = made.validate_certificate()
    made.sans = names
    made.issuer_common_name = signer.name
