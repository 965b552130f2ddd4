"""CloudFront whose default certificate has no SSL support method: there is nothing to choose without a name of one's own."""

from __future__ import annotations

from typing import Any

from moto.cloudfront import models

from twin.region.patch import wrap
from twin.region.region import Region


def install(region: Region) -> None:
    @wrap(models.ViewerCertificate, "__init__")
    def create(original: Any, self: Any, config: dict[str, Any]) -> None:
        original(self, config)
        if str(self.cloud_front_default_certificate).lower() == "true":
            # https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_ViewerCertificate.html
            self.ssl_support_method = config.get("SSLSupportMethod") or ""
