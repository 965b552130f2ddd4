"""What moto's budgets can't be asked, and CloudFront's default certificate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

LIMIT = {"Amount": "300", "Unit": "USD"}
NOTIFICATION = {
    "NotificationType": "FORECASTED",
    "ComparisonOperator": "GREATER_THAN",
    "Threshold": 100.0,
    "ThresholdType": "PERCENTAGE",
}
OWNER, SECOND = ({"SubscriptionType": "EMAIL", "Address": f"{name}@example.com"} for name in ("owner", "second"))


def test_subscribers_of_a_notification(client: Callable[[str], Any]) -> None:
    budgets = client("budgets")
    account = client("sts").get_caller_identity()["Account"]
    budgets.create_budget(
        AccountId=account,
        Budget={"BudgetName": "all", "BudgetType": "COST", "TimeUnit": "MONTHLY", "BudgetLimit": LIMIT},
        NotificationsWithSubscribers=[{"Notification": NOTIFICATION, "Subscribers": [OWNER]}],
    )
    which = {"AccountId": account, "BudgetName": "all", "Notification": NOTIFICATION}

    def subscribers() -> list[dict[str, str]]:
        found: list[dict[str, str]] = budgets.describe_subscribers_for_notification(**which)["Subscribers"]
        return found

    assert subscribers() == [OWNER]
    budgets.create_subscriber(**which, Subscriber=SECOND)
    with pytest.raises(ClientError, match="Duplicate"):
        budgets.create_subscriber(**which, Subscriber=SECOND)
    budgets.delete_subscriber(**which, Subscriber=OWNER)
    assert subscribers() == [SECOND]
    with pytest.raises(ClientError, match="NotFound"):
        budgets.describe_subscribers_for_notification(**{**which, "Notification": {**NOTIFICATION, "Threshold": 50.0}})


def test_budgets_have_tags(client: Callable[[str], Any]) -> None:
    budgets = client("budgets")
    account = client("sts").get_caller_identity()["Account"]
    budgets.create_budget(
        AccountId=account,
        Budget={"BudgetName": "tagged", "BudgetType": "COST", "TimeUnit": "MONTHLY", "BudgetLimit": LIMIT},
        ResourceTags=[{"Key": "owner", "Value": "nobody"}],
    )
    arn = f"arn:aws:budgets::{account}:budget/tagged"
    budgets.tag_resource(ResourceARN=arn, ResourceTags=[{"Key": "stage", "Value": "test"}])
    budgets.untag_resource(ResourceARN=arn, ResourceTagKeys=["owner"])
    assert budgets.list_tags_for_resource(ResourceARN=arn)["ResourceTags"] == [{"Key": "stage", "Value": "test"}]
    with pytest.raises(ClientError, match="NotFound"):
        budgets.list_tags_for_resource(ResourceARN=f"{arn}-absent")
