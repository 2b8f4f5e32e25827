"""What deploy/kafka/kafka.sh refuses, without a broker."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import KAFKA_SH


@pytest.mark.parametrize("full", ["data", "state"])
def test_no_broker_is_started_on_a_full_disk(tmp_path: Path, full: str) -> None:
    """Kafka 4.3.1 deletes sound segments there (docs/reliability.md)."""
    df = tmp_path / "bin" / "df"
    df.parent.mkdir()
    df.write_text(
        "#!/bin/sh\n"
        "echo 'Filesystem 1024-blocks Used Available Capacity Mounted on'\n"
        f"case $2 in */{full}) free=2000 ;; *) free=9000000 ;; esac\n"
        'echo "/dev/vda 9000000 0 $free 0% /"\n'
    )
    df.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{df.parent}:{os.environ['PATH']}",
        "LAUREL_KAFKA_DIR": str(tmp_path / "state"),
        "LAUREL_KAFKA_DATA_DIR": str(tmp_path / "data"),
    }
    done = subprocess.run([str(KAFKA_SH), "start"], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1
    assert done.stderr == (
        f"kafka: {tmp_path / full} has 1 MiB left and a broker needs 64 to start: make room, then start it again\n"
    )
    assert not (tmp_path / "state" / "kafka.pid").exists()
