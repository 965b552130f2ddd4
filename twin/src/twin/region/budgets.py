"""Budgets that tell who is notified: moto keeps the subscribers and has no way to ask for them."""

from __future__ import annotations

import json
from typing import Any

from moto.budgets.exceptions import DuplicateRecordException, NotFoundException
from moto.budgets.responses import BudgetsResponse

from twin.region.patch import add
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
