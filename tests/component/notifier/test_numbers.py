"""The numbers that the alerts ask for, as the tables tell them."""

from __future__ import annotations

from laurel_notifier.numbers import numbers
from tests.component.notifier.kit import Notifier, Sink, issued

DELIVERIES, EMAILS = "laurel_deliveries_overdue_seconds", "laurel_emails_overdue_seconds"


async def told(notifier: Notifier) -> dict[str, float]:
    async with notifier.service.worker_database.transaction() as tx:
        return dict(await numbers(tx))


async def test_what_is_due_and_in_nobodys_hand_is_overdue(notifier: Notifier, sink: Sink) -> None:
    assert await told(notifier) == {DELIVERIES: 0.0, EMAILS: 0.0}
    await notifier.endpoint(f"{sink.base}/one")
    await notifier.take_in(issued(1), issued(2))
    await notifier.sql("UPDATE deliveries SET next_attempt_at = now() - interval '10 minutes'")
    assert 600 <= (await told(notifier))[DELIVERIES] < 6000
    await notifier.sql("UPDATE deliveries SET lease = uuidv7(), lease_until = now() + interval '1 minute'")
    assert (await told(notifier))[DELIVERIES] == 0.0, "a worker has them in hand"
    await notifier.sql("UPDATE deliveries SET lease_until = now() - interval '1 minute'")
    assert (await told(notifier))[DELIVERIES] >= 600, "and died with them"
    await notifier.sql("UPDATE endpoints SET enabled = false")
    assert (await told(notifier))[DELIVERIES] == 0.0
    await notifier.sql("UPDATE emails SET state = 'pending', next_attempt_at = now() - interval '1 hour'")
    assert 3600 <= (await told(notifier))[EMAILS] < 36000
