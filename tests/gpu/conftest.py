"""The tests that need a GPU. `make gpu` runs them, `make test` does not; `--device cpu` rehearses them without one."""

from __future__ import annotations

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cuda", choices=("cuda", "cpu"), help="where the tests compute")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    name: str = request.config.getoption("--device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.exit("no GPU is visible; `--device cpu` rehearses the tests without one", returncode=2)
    return name
