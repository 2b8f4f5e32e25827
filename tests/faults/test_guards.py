"""Without a guard some test is red. CI takes the main ones away; all of them: `python -m tests.faults.guards`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.guards import GUARDS, IN_CI, ROOT, Bench, bench


@pytest.fixture(scope="module")
def ready() -> Iterator[Bench]:
    with bench() as made:
        yield made


def test_every_guard_stands_in_the_code_and_its_tests_exist() -> None:
    for guard in GUARDS:
        assert (ROOT / guard.file).read_text(encoding="utf-8").count(guard.old) == 1, guard.name
        for test in guard.tests:
            path, _, name = test.partition("::")
            assert f"def {name.partition('[')[0]}" in (ROOT / path).read_text(encoding="utf-8"), test
    assert set(IN_CI) <= {guard.name for guard in GUARDS}
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)


@pytest.mark.timeout(600)
def test_with_every_guard_in_its_place_the_tests_are_green(ready: Bench) -> None:
    chosen = [guard for guard in GUARDS if guard.name in IN_CI]
    assert ready.green(sorted({test for guard in chosen for test in guard.tests})) == ""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("guard", [one for one in GUARDS if one.name in IN_CI], ids=lambda one: one.name)
def test_without_it_they_are_red(ready: Bench, guard: object) -> None:
    verdict = ready.judge(guard)  # type: ignore[arg-type]
    assert verdict.noticed, verdict.said
