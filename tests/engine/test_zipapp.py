import subprocess
import sys
from pathlib import Path

from slipway.controller import zipapp


def test_the_same_source_gives_the_same_bytes_and_they_run(tmp_path: Path) -> None:
    target = tmp_path / "slipway"
    assert zipapp.write(target)
    first = target.read_bytes()
    assert not zipapp.write(target)
    target.unlink()
    assert zipapp.write(target)
    assert target.read_bytes() == first
    assert first.splitlines()[0] == b"#!/usr/bin/python3 -ISXutf8"
    shown = subprocess.run([sys.executable, "-IS", str(target), "--help"], capture_output=True, text=True, check=True)
    assert "rollback" in shown.stdout
    assert "exit codes:" in shown.stdout
