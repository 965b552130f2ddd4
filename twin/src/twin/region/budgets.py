"""Budgets that tell who is notified, and have tags: moto keeps the subscribers, but has no way to ask for either."""

from __future__ import annotations

import json
from typing import Any

from moto.budgets.exceptions import DuplicateRecordException, NotFoundException
from moto.budgets.responses import BudgetsResponse

from twin.region.patch import add, wrap
from twin.region.region import Region


def install(region: Region) -> None:
    @add(BudgetsResponse, "describe_subscribers_for_notification")
    def describe(self: Any) -> str:
        """https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_budgets_DescribeSubscribersForNotification.html"""
        return json.dumps({"Subscribers": _notification(self).subscribers})

    @add(BudgetsResponse, "create_subscriber")
    def create(self: Any) -> str:
        subscribers, wanted = _notification(self).subscribers, self._get_param("Subscriber")
        if wanted in subscribers:
            raise DuplicateRecordException(record_type="subscriber", record_name=wanted["Address"])
        subscribers.append(wanted)
        return "{}"

    @add(BudgetsResponse, "delete_subscriber")
    def delete(self: Any) -> str:
        subscribers, wanted = _notification(self).subscribers, self._get_param("Subscriber")
        if wanted not in subscribers:
            raise NotFoundException("Unable to delete subscriber - the subscriber doesn't exist.")
        subscribers.remove(wanted)
        return "{}"

    _install_tags()


def _install_tags() -> None:
    """https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_budgets_ListTagsForResource.html"""

    def tags_of(response: Any) -> dict[str, str]:
        """Tags by key of the budget whose ARN the request gives. Raises AWS's NotFoundException."""
        arn = response._get_param("ResourceARN")
        account, _, name = arn.split("::", 1)[-1].partition(":budget/")
        if name not in response.backend.budgets[account]:
            raise NotFoundException(f"Unable to get budget: {name} - the budget doesn't exist.")
        found: dict[str, str] = vars(response.backend.budgets[account][name]).setdefault("tags", {})
        return found

    @wrap(BudgetsResponse, "create_budget")
    def create_budget(original: Any, self: Any) -> Any:
        result = original(self)
        budget = self.backend.budgets[self._get_param("AccountId")][self._get_param("Budget")["BudgetName"]]
        budget.tags = {tag["Key"]: tag["Value"] for tag in self._get_param("ResourceTags") or []}
        return result

    @add(BudgetsResponse, "list_tags_for_resource")
    def list_tags(self: Any) -> str:
        return json.dumps({"ResourceTags": [{"Key": key, "Value": value} for key, value in tags_of(self).items()]})

    @add(BudgetsResponse, "tag_resource")
    def tag(self: Any) -> str:
        tags_of(self).update({tag["Key"]: tag["Value"] for tag in self._get_param("ResourceTags")})
        return "{}"

    @add(BudgetsResponse, "untag_resource")
    def untag(self: Any) -> str:
        for key in self._get_param("ResourceTagKeys"):
            tags_of(self).pop(key, None)
        return "{}"


def _notification(response: Any) -> Any:
    """The notification that the request names. Raises AWS's NotFoundException."""
    budget = response.backend.budgets[response._get_param("AccountId")].get(response._get_param("BudgetName"))
    details = response._get_param("Notification")
    for notification in budget.notifications if budget else ():
        kept, wanted = dict(notification.details), dict(details)
        # Who asks may leave out what he did not set.
        kept.pop("NotificationState", None)
        wanted.pop("NotificationState", None)
        if kept == wanted:
            return notification
    raise NotFoundException("Unable to get the subscribers - the notification doesn't exist.")
