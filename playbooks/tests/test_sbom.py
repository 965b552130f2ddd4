"""Bills of materials: valid, complete, and the same for the same packages."""

from __future__ import annotations

import json

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from test_filters import load

sbom = load("sbom")

DEBIAN = ["openssl 3.5.1-1+deb13u1 amd64", "libc6 2.41-12 amd64"]
PYTHON = ["Flask 3.1.2", "typing_extensions 4.15.0"]


def test_cyclonedx_is_valid_and_has_every_package() -> None:
    found = sbom.cyclonedx(sbom.components(DEBIAN, PYTHON, "13"), "signup", "1.0")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(found)) is None
    assert [each["purl"] for each in found["components"]] == [
        "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=debian-13",
        "pkg:deb/debian/openssl@3.5.1-1%2Bdeb13u1?arch=amd64&distro=debian-13",
        "pkg:pypi/flask@3.1.2",
        "pkg:pypi/typing-extensions@4.15.0",
    ]


def test_the_order_of_lists_makes_no_difference() -> None:
    one = sbom.cyclonedx(sbom.components(DEBIAN, PYTHON, "13"), "signup", "1.0")
    other = sbom.cyclonedx(sbom.components(DEBIAN[::-1], PYTHON[::-1], "13"), "signup", "1.0")
    assert json.dumps(one) == json.dumps(other)


def test_spdx_describes_the_image_and_contains_every_package() -> None:
    found = sbom.spdx(sbom.components(DEBIAN, PYTHON, "13"), "signup", "1.0", "2026-01-31T12:00:00Z")
    names = {each["SPDXID"]: each["name"] for each in found["packages"]}
    assert len(names) == 1 + len(DEBIAN) + len(PYTHON)
    (described,) = [each for each in found["relationships"] if each["relationshipType"] == "DESCRIBES"]
    assert names[described["relatedSpdxElement"]] == "signup"
    contained = {names[each["relatedSpdxElement"]] for each in found["relationships"] if each["relationshipType"] == "CONTAINS"}
    assert contained == {"openssl", "libc6", "flask", "typing-extensions"}
    locators = [each["externalRefs"][0]["referenceLocator"] for each in found["packages"][1:]]
    assert all(locator.startswith("pkg:") for locator in locators)
