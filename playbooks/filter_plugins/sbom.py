"""Bills of materials of a machine, in both common formats, of its Debian packages and the Python packages of a release.

Without dates and random numbers where the formats allow: the same packages give the same CycloneDX, byte for byte.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import quote

Component = dict[str, str]


def components(debian: list[str], python: list[str], release: str) -> list[Component]:
    """From lines of `dpkg-query` (name, version, architecture) and of `importlib.metadata` (name, version)."""
    found = []
    for line in debian:
        name, version, architecture = line.split()
        url = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}&distro=debian-{release}"
        found.append({"name": name, "version": version, "purl": url})
    for line in python:
        name, version = line.split()
        plain = re.sub(r"[-_.]+", "-", name).lower()
        found.append({"name": plain, "version": version, "purl": f"pkg:pypi/{plain}@{quote(version)}"})
    return sorted(found, key=lambda each: each["purl"])


def cyclonedx(found: list[Component], name: str, version: str) -> dict[str, Any]:
    """CycloneDX 1.6."""
    root = {"type": "operating-system", "bom-ref": "image", "name": name, "version": version}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": [{"type": "library", "bom-ref": each["purl"], **each} for each in found],
        "dependencies": [{"ref": "image", "dependsOn": [each["purl"] for each in found]}],
    }


def spdx(found: list[Component], name: str, version: str, created: str) -> dict[str, Any]:
    """SPDX 2.3. `created` is the time that the format demands, as 2026-01-31T12:00:00Z."""
    rows = [{"name": name, "version": version, "purl": ""}, *found]
    ids = [
        f"SPDXRef-{hashlib.sha256(each['purl'].encode()).hexdigest()[:16]}" if each["purl"] else "SPDXRef-Image" for each in rows
    ]
    packages: list[dict[str, Any]] = []
    for key, each in zip(ids, rows, strict=True):
        package: dict[str, Any] = {"SPDXID": key, "name": each["name"], "versionInfo": each["version"]}
        package |= {"downloadLocation": "NOASSERTION", "filesAnalyzed": False}
        if each["purl"]:
            reference = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": each["purl"]}
            package["externalRefs"] = [reference]
        packages.append(package)
    digest = hashlib.sha256("\n".join(each["purl"] for each in found).encode()).hexdigest()
    described = [("SPDXRef-DOCUMENT", "DESCRIBES", ids[0]), *((ids[0], "CONTAINS", key) for key in ids[1:])]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{name}-{version}",
        "documentNamespace": f"https://spdx.org/spdxdocs/{quote(name)}-{quote(version)}-{digest}",
        "creationInfo": {"created": created, "creators": ["Tool: evenkeel"]},
        "packages": packages,
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other} for one, kind, other in described
        ],
    }


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"sbom_components": components, "sbom_cyclonedx": cyclonedx, "sbom_spdx": spdx}
