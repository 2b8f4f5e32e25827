"""Which of several failures a process ends by."""

from __future__ import annotations

import asyncio

import pytest

from laurel.errors import Stuck, first_failure


async def fails(error: BaseException, *, after: float = 0.0) -> None:
    await asyncio.sleep(after)
    raise error


async def test_the_first_of_a_group_also_within_another() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.TaskGroup() as outer:

            async def inside() -> None:
                async with asyncio.TaskGroup() as inner:
                    inner.create_task(fails(Stuck("first")))
                    inner.create_task(fails(OSError("second")))

            outer.create_task(inside())
    assert str(first_failure(raised.value)) == "first"


@pytest.mark.parametrize("clearing_up", [RuntimeError("closed"), asyncio.CancelledError()])
async def test_what_fails_in_clearing_up_hides_nothing(clearing_up: BaseException) -> None:
    with pytest.raises((RuntimeError, asyncio.CancelledError)) as raised:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails(Stuck("first")))
        finally:
            try:
                raise KeyError("on the way")
            except KeyError:
                raise clearing_up  # noqa: B904 - as a library's close() does
    assert str(first_failure(raised.value)) == "first"


async def test_what_was_handled_is_not_the_failure() -> None:
    with pytest.raises(OSError) as raised:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails(Stuck("handled")))
        except ExceptionGroup as group_of_them:
            raise OSError("of this") from group_of_them
    assert str(first_failure(raised.value)) == "of this"
