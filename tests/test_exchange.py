"""Addresses in an object store, as the library that opens them reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import fs

from study.run.exchange import below


@pytest.mark.parametrize("name", ["s-1", "étude-1", "a b", "50 %", "x#y?z"])
def test_any_name_lies_below_a_stores_folder(name: str, tmp_path: Path) -> None:
    _, path = fs.FileSystem.from_uri(below(below(tmp_path.as_uri() + "/", name), "01", "resumed"))
    assert Path(path) == tmp_path / name / "01" / "resumed"


def test_a_stores_options_stay_at_the_end() -> None:
    uri = "s3://bucket/studies?region=eu-west-1&endpoint_override=http%3A%2F%2Flocalhost%3A9000"
    assert below(uri, "s", "01") == uri.replace("studies", "studies/s/01")
    assert below("s3://bucket", "s") == "s3://bucket/s"
