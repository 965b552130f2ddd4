"""HTTPS listeners: certificates of ACM with their own keys, server names, security policies, HTTP/2."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from balancing import PORT, World, ask
from botocore.exceptions import ClientError
from common import client, until
from cryptography import x509
from cryptography.x509.oid import NameOID

from twin.bodies.certificates import Authority

pytest_plugins = ["balancing_fixtures"]

HTTPS = PORT + 1
CREATE = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/create-https-listener.html"
POLICIES = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html"


def unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Secure:
    """The world's load balancer with an HTTPS listener: an imported certificate for secure.test."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.acm = client("acm")
        self.own = Authority.create("Own")
        self.trust = ssl.create_default_context(cadata=self.own.certificate.decode())
        self.certificate = self.imported("secure.test")
        self.listener = self.listen(self.certificate)
        until(lambda: {each.port for each in world.haproxy.served.frontends} == {PORT, HTTPS})

    def imported(self, *names: str) -> str:
        certificate, key = self.own.issue(list(names))
        made = self.acm.import_certificate(Certificate=certificate, PrivateKey=key, CertificateChain=self.own.certificate)
        return str(made["CertificateArn"])

    def listen(self, certificate: str, **options: str) -> str:
        made = self.world.elbv2.create_listener(
            LoadBalancerArn=self.world.balancer,
            Protocol="HTTPS",
            Port=HTTPS,
            Certificates=[{"CertificateArn": certificate}],
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.world.group}],
            **options,
        )
        return str(made["Listeners"][0]["ListenerArn"])

    def handshake(self, name: str, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        plain = socket.create_connection((self.world.address, HTTPS), timeout=10)
        try:
            return (context or self.trust).wrap_socket(plain, server_hostname=name)
        except BaseException:
            plain.close()
            raise

    def name_for(self, name: str, context: ssl.SSLContext | None = None) -> str:
        """The common name of the certificate that a client of `name` gets."""
        with self.handshake(name, context) as connection:
            found = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
            return str(found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    def get(self, path: str = "/") -> tuple[int, bytes, Any]:
        connection = http.client.HTTPSConnection(self.world.address, HTTPS, timeout=10, context=self.trust)
        connection.sock = self.handshake("secure.test")
        return ask(connection, path, Host="secure.test")


@pytest.fixture
def secure(world: World) -> Secure:
    return Secure(world)


@pytest.mark.rule(
    "load balancing", "An HTTPS listener presents the certificate that was imported, and its own chain and key.", CREATE
)
@pytest.mark.rule(
    "load balancing",
    "Requests over HTTPS reach targets with X-Forwarded-Proto https.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html",
)
def test_https_with_the_imported_certificate(secure: Secure) -> None:
    world = secure.world
    _, target = world.healthy_target()
    assert secure.get("/over-tls")[:2] == (200, target.address.encode())
    sent = target.requests[-1][1]
    assert (sent["x-forwarded-proto"], sent["x-forwarded-port"]) == ("https", str(HTTPS))
    assert "x-amzn-tls-version" not in sent
    world.balancer_attributes(routing__http__x_amzn_tls_version_and_cipher_suite__enabled="true")
    until(lambda: secure.get("/")[0] == 200 and target.requests[-1][1].get("x-amzn-tls-version") == "TLSv1.2")
    with pytest.raises(ssl.SSLCertVerificationError):
        secure.handshake("other.test")
    files = list((world.haproxy.folder / "certificates").iterdir())
    assert [(path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) for path in files] == [(0o600, 0o700)]
    state = Path(world.region.settings.state)
    keys = [path for path in state.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert keys == files, "private keys are in files that only their owner reads, and nowhere else"


@pytest.mark.rule(
    "load balancing",
    "A listener with several certificates chooses by the client's server name, and the default one for names it does not know.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/https-listener-certificates.html",
)
def test_server_names_choose_certificates(secure: Secure) -> None:
    elbv2 = secure.world.elbv2
    more = [secure.imported("second.test", "*.wild.test"), secure.imported("third.test")]
    elbv2.add_listener_certificates(ListenerArn=secure.listener, Certificates=[{"CertificateArn": arn} for arn in more])
    until(lambda: len(secure.world.haproxy.served.certificates) == 3)
    names = {name: secure.name_for(name) for name in ("secure.test", "second.test", "a.wild.test", "third.test")}
    assert names == {name: name if "wild" not in name else "second.test" for name in names}
    anyone = unverified()
    assert secure.name_for("unknown.test", anyone) == "secure.test"
    described = elbv2.describe_listener_certificates(ListenerArn=secure.listener)["Certificates"]
    assert {entry["CertificateArn"]: entry["IsDefault"] for entry in described} == {
        secure.certificate: True, **dict.fromkeys(more, False)}  # fmt: skip
    elbv2.modify_listener(ListenerArn=secure.listener, Certificates=[{"CertificateArn": more[1]}])
    until(lambda: secure.name_for("unknown.test", anyone) == "third.test")
    assert secure.name_for("second.test") == "second.test", "a new default certificate leaves the others"
    elbv2.remove_listener_certificates(ListenerArn=secure.listener, Certificates=[{"CertificateArn": more[0]}])
    until(lambda: secure.name_for("second.test", anyone) == "third.test")
    with pytest.raises(ClientError, match="OperationNotPermitted"):
        elbv2.remove_listener_certificates(ListenerArn=secure.listener, Certificates=[{"CertificateArn": more[1]}])


@pytest.mark.rule("load balancing", "A security policy sets the TLS versions and ciphers that clients may use.", POLICIES)
def test_security_policy_sets_versions_and_ciphers(secure: Secure) -> None:
    elbv2 = secure.world.elbv2

    def version(limit: ssl.TLSVersion, ciphers: str = "") -> str | None:
        context = unverified()
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = limit
        context.set_ciphers(ciphers or "DEFAULT:@SECLEVEL=0")
        try:
            with secure.handshake("secure.test", context) as connection:
                return connection.version()
        except (ssl.SSLError, ConnectionError):
            return None

    described = elbv2.describe_listeners(ListenerArns=[secure.listener])["Listeners"][0]
    assert described["SslPolicy"] == "ELBSecurityPolicy-2016-08", "the API's own default"
    assert version(ssl.TLSVersion.TLSv1) == "TLSv1"
    assert version(ssl.TLSVersion.TLSv1_3) == "TLSv1.2"
    elbv2.modify_listener(ListenerArn=secure.listener, SslPolicy="ELBSecurityPolicy-TLS13-1-2-2021-06")
    until(lambda: version(ssl.TLSVersion.TLSv1_3) == "TLSv1.3")
    assert version(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert version(ssl.TLSVersion.TLSv1_1) is None
    assert version(ssl.TLSVersion.TLSv1_2, "AES128-SHA") is None, "the policy has no cipher without forward secrecy"
    elbv2.modify_listener(ListenerArn=secure.listener, SslPolicy="ELBSecurityPolicy-TLS13-1-3-2021-06")
    until(lambda: version(ssl.TLSVersion.TLSv1_2) is None)
    assert version(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


@pytest.mark.rule(
    "load balancing",
    "HTTPS listeners speak HTTP/2 with clients that do, unless routing.http2.enabled is false; targets get HTTP/1.1.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-listeners.html#listener-configuration",
)
def test_http2_with_clients(secure: Secure) -> None:
    world = secure.world
    _, target = world.healthy_target()

    def chosen() -> str | None:
        context = unverified()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with secure.handshake("secure.test", context) as connection:
            return connection.selected_alpn_protocol()

    assert chosen() == "h2"
    url = f"https://{world.address}:{HTTPS}/by-http2"
    command = ["curl", "--silent", "--insecure", "--http2", "--write-out", " %{http_version}", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == f"{target.address} 2"
    assert target.requests[-1][0] == "/by-http2"
    world.balancer_attributes(routing__http2__enabled="false")
    until(lambda: chosen() == "http/1.1")


@pytest.mark.rule(
    "load balancing",
    "A redirect action sends clients from HTTP to HTTPS, keeping host, path and query.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-action-types.html#redirect-actions",
)
def test_redirect_to_https(secure: Secure) -> None:
    redirect = {"Protocol": "HTTPS", "Port": str(HTTPS), "StatusCode": "HTTP_301"}
    secure.world.elbv2.modify_listener(
        ListenerArn=secure.world.listener, DefaultActions=[{"Type": "redirect", "RedirectConfig": redirect}]
    )
    until(lambda: secure.world.get()[0] == 301)
    moved = secure.world.get("/a?b=c", Host=f"secure.test:{PORT}")
    assert moved[2]["Location"] == f"https://secure.test:{HTTPS}/a?b=c"


@pytest.mark.rule(
    "load balancing",
    "A requested certificate is pending until it is validated, can't be used before, and then has its names and can.",
    "https://docs.aws.amazon.com/acm/latest/APIReference/API_RequestCertificate.html",
)
def test_requested_certificate_is_signed_by_the_twins_authority(secure: Secure) -> None:
    world, acm = secure.world, secure.acm
    names = {"DomainName": "asked.test", "SubjectAlternativeNames": ["www.asked.test"]}
    arn = acm.request_certificate(**names, ValidationMethod="DNS")["CertificateArn"]
    described = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    if described["Status"] == "PENDING_VALIDATION":
        with pytest.raises(ClientError, match="UnsupportedCertificate"):
            world.elbv2.modify_listener(ListenerArn=secure.listener, Certificates=[{"CertificateArn": arn}])
    until(lambda: acm.describe_certificate(CertificateArn=arn)["Certificate"]["Status"] == "ISSUED")
    described = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    assert described["SubjectAlternativeNames"] == ["asked.test", "www.asked.test"]
    assert [option["DomainName"] for option in described["DomainValidationOptions"]] == ["asked.test", "www.asked.test"]
    world.elbv2.modify_listener(ListenerArn=secure.listener, Certificates=[{"CertificateArn": arn}])
    trust = ssl.create_default_context(cafile=str(world.region.settings.state / "certificate-authority.pem"))
    until(lambda: secure.name_for("asked.test", unverified()) == "asked.test")
    assert secure.name_for("www.asked.test", trust) == "asked.test"
    assert acm.describe_certificate(CertificateArn=arn)["Certificate"]["InUseBy"] == [world.balancer]
    with pytest.raises(ClientError, match="ResourceInUseException"):
        acm.delete_certificate(CertificateArn=arn)
    world.elbv2.delete_listener(ListenerArn=secure.listener)
    acm.delete_certificate(CertificateArn=arn)


def test_errors_are_aws_own(secure: Secure) -> None:
    elbv2 = secure.world.elbv2
    unknown = secure.certificate[:-4] + "0000"
    with pytest.raises(ClientError, match="SSLPolicyNotFound"):
        elbv2.modify_listener(ListenerArn=secure.listener, SslPolicy="ELBSecurityPolicy-None")
    with pytest.raises(ClientError, match="SSLPolicyNotFound"):
        elbv2.describe_ssl_policies(Names=["ELBSecurityPolicy-None"])
    with pytest.raises(ClientError, match="CertificateNotFound"):
        elbv2.modify_listener(ListenerArn=secure.listener, Certificates=[{"CertificateArn": unknown}])
    with pytest.raises(ClientError, match="CertificateNotFound"):
        elbv2.add_listener_certificates(ListenerArn=secure.listener, Certificates=[{"CertificateArn": unknown}])
    elbv2.delete_listener(ListenerArn=secure.listener)
    for wrong in (unknown, ""):
        with pytest.raises(ClientError, match=r"CertificateNotFound|ValidationError"):
            secure.listen(wrong)
    with pytest.raises(ClientError, match="SSLPolicyNotFound"):
        secure.listen(secure.certificate, SslPolicy="ELBSecurityPolicy-None")
    with pytest.raises(ClientError, match="not supported by the twin"):
        secure.listen(secure.certificate, MutualAuthentication={"Mode": "passthrough"})
