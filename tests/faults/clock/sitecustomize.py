"""Steps the wall clock of a Python process from outside, without a line in the product.

Processes of a fault run start with this folder on PYTHONPATH, so that Python imports this file first. The file that
FAULTS_CLOCK names holds an offset in seconds; a thread looks at it and moves `time.time`, `datetime.now` and the like
(not the monotonic clock, which no step moves) by `time_machine`. The databases' and the broker's clocks stay.
"""

import os
import threading
import time
from datetime import datetime, timedelta, timezone


def _follow(path: str) -> None:
    import time_machine

    travel, current = None, 0.0
    while True:
        try:
            with open(path) as file:
                wanted = float(file.read() or 0)
        except (OSError, ValueError):
            wanted = current
        if wanted != current:
            if travel is not None:
                travel.stop()
                travel = None
            if wanted:
                travel = time_machine.travel(datetime.now(timezone.utc) + timedelta(seconds=wanted), tick=True)  # noqa: UP017
                travel.start()
            current = wanted
        time.sleep(0.1)


if os.environ.get("FAULTS_CLOCK"):
    threading.Thread(target=_follow, args=(os.environ["FAULTS_CLOCK"],), daemon=True).start()
