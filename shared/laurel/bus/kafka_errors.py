"""Deadlines around aiokafka, and the one place that says which of its errors mean "later"."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from aiokafka import errors

from laurel.bus import BusError, BusUnavailable

# A mistake of ours or of the installation: trying again gives the same answer. All other KafkaErrors are taken
# as "later", also those that end a producer's life (OutOfOrderSequenceNumber, ProducerFenced): a new one is made.
NEVER: tuple[type[BaseException], ...] = (
    errors.AuthenticationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.IllegalArgumentError,
    errors.InvalidTopicError,
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.SaslAuthenticationFailed,
    errors.TopicAuthorizationFailedError,
    errors.UnsupportedCodecError,
    errors.UnsupportedVersionError,
)


@contextlib.asynccontextmanager
async def translated(doing: str, timeout: float) -> AsyncIterator[None]:
    """Run the body for at most ``timeout`` seconds; raises BusUnavailable (later) or BusError (never)."""
    try:
        async with asyncio.timeout(timeout):
            yield
    except BusError:
        raise
    except ExceptionGroup as group:  # from a TaskGroup: its first member says what happened
        error = group.exceptions[0]
        if isinstance(error, errors.KafkaError | OSError):
            raise _as_bus_error(doing, error) from group
        raise error from group
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # aiokafka cancelled a future of its own that we were waiting for; nobody asked us to stop.
        raise BusUnavailable(f"Kafka, {doing}: the client gave up") from error
    except TimeoutError as error:
        raise BusUnavailable(f"Kafka, {doing}: no answer within {timeout:g} s") from error
    except (errors.KafkaError, OSError) as error:
        raise _as_bus_error(doing, error) from error
    except RuntimeError as error:
        if not over_a_closed_connection(error):
            raise
        raise _as_bus_error(doing, error) from error


def over_a_closed_connection(error: RuntimeError) -> bool:
    """Whether a connection was lost right before something was to be written: what uvloop says then, as no OSError."""
    return "the handler is closed" in str(error)


def _as_bus_error(doing: str, error: BaseException) -> BusError:
    kind = BusError if isinstance(error, NEVER) else BusUnavailable
    return kind(f"Kafka, {doing}: {type(error).__name__}: {error}")


async def stop_quietly(stop: Coroutine[Any, Any, Any], *, grace: float = 5.0) -> bool:
    """Await ``stop`` for ``grace`` seconds, then cancel it. True when it ended by itself; its errors say nothing new.

    In a task of its own, because aiokafka's stop can raise CancelledError, or never return.
    """
    task = asyncio.create_task(stop)
    await asyncio.wait([task], timeout=grace)
    if task.done():
        if not task.cancelled():
            task.exception()
        return True
    task.cancel()
    await asyncio.wait([task], timeout=1.0)
    return False
