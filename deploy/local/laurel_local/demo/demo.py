"""The whole way, once, in front of your eyes.

1. Start everything that `laurel up` starts, and the two who receive: a partner's inbox and the learners' mailbox.
2. Make an organisation with an issuer profile, a signing key, an achievement and a webhook endpoint (the first time).
3. Send the results through the bulk API, as a learning platform would.
4. Wait until everything has arrived: decided, issued, indexed, delivered.
5. Compare the ids of the four services, measure, and tell.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from laurel.process import stop_on_signals
from laurel_local.client import Client, Refused
from laurel_local.console import Output
from laurel_local.demo import report
from laurel_local.demo.cohort import Part, parts
from laurel_local.demo.inbox import Inbox
from laurel_local.demo.mailbox import Mailbox
from laurel_local.demo.organisation import Organisation, ensure, examples
from laurel_local.exits import Exit, Failure
from laurel_local.reconcile import reconcile
from laurel_local.state import State
from laurel_local.up import docs_urls, running

COURSE_RUN = "data-literacy-2025-autumn"
IN_FLIGHT_S = 330.0  # how long the server may believe in an upload whose sender died
STILL_S = 120.0  # nothing arrived anywhere for this long: say so and stop waiting


async def run_demo(
    state: State,
    *,
    learners: int | None,
    leave: bool,
    port: int | None,
    bus_url: str | None,
    output: Output,
) -> Exit:
    """`laurel demo`."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    began = time.monotonic()
    inbox, mailbox = Inbox(state.folder / "inbox.ndjson"), Mailbox(state.folder / "mailbox")
    smtp_url = await mailbox.start()
    overrides = {
        "smtp_url": smtp_url,
        "mail_from": "Open Campus <badges@campus.example.org>",
        "allow_networks": "127.0.0.0/8,::1/128",
        "allow_http_issuers": True,
    }
    extra = {"/demo/mailbox": mailbox.app(), "/demo/": inbox.app()}
    output.note("Starting PostgreSQL and four services in this process …")
    try:
        async with running(state, port=port, bus_url=bus_url, overrides=overrides, extra=extra) as laurel:  # 1
            for note in laurel.notes:
                output.note(note)
            work = asyncio.create_task(
                _work(state, laurel.url, laurel.port, laurel.secrets["LAUREL_OPERATOR_TOKEN"], inbox, learners, output)
            )
            if not await _first(work, stop):
                return Exit.INTERRUPTED
            outcome = work.result()
            document = report.document(outcome, mailbox, inbox, laurel.url, time.monotonic() - began)
            output.result(document)
            if not output.as_json:
                report.show(document, output)
            if not leave:
                output.note("Ctrl-C stops it; the next run continues from here.")
                await stop.wait()
                output.note("Stopping; Ctrl-C again ends at once.")
            return Exit.OK if document["unaccounted"] == 0 else Exit.NO
    finally:
        mailbox.stop()
        inbox.close()


async def _first(work: asyncio.Task[Any], stop: asyncio.Event) -> bool:
    """Wait for the work or for Ctrl-C; whether the work is done. Raises what the work raised."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
    if work.cancelled():
        return False
    work.result()
    return True


async def _work(
    state: State, url: str, port: int, operator_token: str, inbox: Inbox, learners: int | None, output: Output
) -> report.Outcome:
    organisation = await ensure(state, url, port, operator_token)  # 2
    inbox.trust(organisation.webhook_secret)
    async with Client(url, organisation.api_key) as client:
        before = await reconcile(client, COURSE_RUN)
        began = time.monotonic()
        imports: list[str] = []
        with _progress(output) as progress:
            for part in parts(examples() / "cohort.csv", learners or 0):  # 3
                imports.append(await _send(client, organisation, part))
            await _arrive(client, imports, progress, output)  # 4
        seconds = time.monotonic() - began
        found = await reconcile(client, COURSE_RUN)  # 5
        return report.Outcome(
            reconciliation=found,
            new=found.accepted - before.accepted,
            imports=imports,
            rejections=await _rejections(client, imports),
            latency=await report.latency(client, COURSE_RUN),
            credential_id=await report.one_credential(client, COURSE_RUN),
            docs=docs_urls(url),
            seconds=seconds,
        )


async def _send(client: Client, organisation: Organisation, part: Part) -> str:
    """Upload one part; the id of its import (the same one when the server has had it before)."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + IN_FLIGHT_S
    while True:
        try:
            answer = await client.call(
                "POST", "/assessment/v1/results/imports",
                params={"achievement": organisation.achievement_id, "course_run": COURSE_RUN},
                headers={"Content-Type": "text/csv", "Idempotency-Key": part.key},
                body=part.body(),
            )  # fmt: skip
        except Refused as refused:
            # A run that was killed in the middle of this upload: the server finds out after a while.
            if refused.status != 409 or loop.time() > deadline:
                raise
            await asyncio.sleep(1.0)
        else:
            return str(answer["import_id"])


async def _rejections(client: Client, imports: list[str]) -> dict[str, int]:
    """How many rows were rejected for which reason; a row with several is counted under its first."""
    reasons: Counter[str] = Counter()
    for one in imports:
        seen: set[int] = set()
        async for item in client.pages(f"/assessment/v1/results/imports/{one}/rejections", limit=1000):
            if item["line"] not in seen:
                seen.add(item["line"])
                reasons[item["code"]] += 1
    return dict(reasons.most_common())


def _progress(output: Output) -> Progress:
    return Progress(
        TextColumn("{task.description:>9}"), BarColumn(), TextColumn("{task.completed:,}/{task.total:,}"),
        TextColumn("{task.fields[rate]:>9}"), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[failures]}"),
        console=output.err, disable=not output.err.is_terminal, transient=True,
    )  # fmt: skip


@dataclass(frozen=True)
class Counts:
    """How far the course run is, as the services count it."""

    rows: int
    decided: int
    due: int
    issued: int
    indexed: int
    deliveries: int
    delivered: int
    unfinished: int
    dead: int
    rejected: int

    @property
    def arrived(self) -> bool:
        """Whether everything that is due has reached its end."""
        return self.decided == self.rows and self.indexed >= self.issued >= self.due and not self.unfinished


async def _counts(client: Client, imports: list[str]) -> Counts:
    statuses = [await client.call("GET", f"/assessment/v1/results/imports/{one}") for one in imports]
    failed = [one for one in statuses if one["status"] == "failed"]
    if failed:
        raise Failure(f"import {failed[0]['import_id']} failed: {failed[0]['failure']}", fix="run the demo again")
    names = ("assessment", "issuer", "verifier", "notifier")
    params = {"course_run": COURSE_RUN}
    reports = [await client.call("GET", f"/{name}/v1/reports/reconcile", params=params) for name in names]
    assessment, issuer, verifier, notifier = (one["counts"] for one in reports)
    issued = issuer["issued"]
    # A message is written for every issued credential; until it is there its deliveries cannot be counted.
    unwritten = max(0, issued - notifier.get("messages", 0))
    waiting = sum(notifier.get(name, 0) for name in ("deliveries_pending", "emails_pending", "emails_sending"))
    return Counts(
        rows=sum(one["rows"] for one in statuses),
        decided=sum(one["processed"] for one in statuses),
        due=assessment["passed"] - issuer["dead_lettered"],
        issued=issued,
        indexed=verifier["indexed"],
        deliveries=sum(count for name, count in notifier.items() if name.startswith("deliveries_")) + unwritten,
        delivered=notifier.get("deliveries_delivered", 0),
        unfinished=unwritten + waiting,
        dead=sum(one.get("dead_lettered", 0) for one in (issuer, verifier, notifier)),
        rejected=sum(one["rejected"] for one in statuses),
    )


async def _arrive(client: Client, imports: list[str], progress: Progress, output: Output) -> None:
    """Return when every accepted row has reached its end, or when nothing moves any more."""
    bars = [progress.add_task(word, rate="", failures="") for word in ("decided", "issued", "indexed", "delivered")]
    loop = asyncio.get_running_loop()
    moved_at, last = loop.time(), None
    while True:
        asked_at = loop.time()
        now = await _counts(client, imports)
        dead = f"{now.dead:,} dead letters" if now.dead else ""
        rejected = f"{now.rejected:,} rejected" if now.rejected else ""
        done = ((now.decided, now.rows), (now.issued, now.due), (now.indexed, now.due), (now.delivered, now.deliveries))
        for bar, (completed, total) in zip(bars, done, strict=True):
            progress.update(bar, completed=completed, total=max(total, completed, 1))
            speed = progress.tasks[bars.index(bar)].speed
            failures = ", ".join(word for word in (rejected if bar == bars[0] else "", dead) if word)
            progress.update(bar, rate=f"{speed:,.0f}/s" if speed else "", failures=failures)
        if now.arrived:
            return
        if now != last:
            moved_at, last = loop.time(), now
        elif loop.time() - moved_at > STILL_S:
            output.note(f"Nothing has moved for {STILL_S:.0f} s; these are the numbers as they stand.")
            return
        # Counting a million rows is work too: never more than a sixth of the time.
        await asyncio.sleep(max(0.2, 5 * (loop.time() - asked_at)))
