from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfpm.ctl import main
from support.master import Ctl, Done, FakeMaster


@pytest.fixture
def master(place: Path) -> Iterator[FakeMaster]:
    fake = FakeMaster(str(place / "m.ctl"))
    yield fake
    fake.end()


@pytest.fixture
def ctl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ctl:
    """Runs ``pyfpmctl`` in this process."""
    monkeypatch.delenv("PYFPM_CONTROL", raising=False)

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        try:
            status = main([str(each) for each in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return run
