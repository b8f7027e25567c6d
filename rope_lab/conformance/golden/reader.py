"""Compare a rotation with the golden vectors of rope-1.json, a file beside this one. It needs numpy only."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def cases() -> list[dict[str, Any]]:
    """All cases, their lists as arrays of float64."""
    found = json.loads(Path(__file__).with_name("rope-1.json").read_text("utf-8"))["cases"]
    return [{k: np.array(v, float) if isinstance(v, list) else v for k, v in case.items()} for case in found]


def check(rotate: Callable[[dict[str, Any]], Any], dtype: str = "float64") -> list[str]:
    """Print the cases in which rotate(case) is off and return their names; None says that one is not offered."""
    failed = []
    for case in cases():
        name, allowed, found = case["name"], case["tolerance"][dtype], rotate(case)
        if found is None:
            print(f"not offered: {name}")
            continue
        same = np.shape(found) == case["expected"].shape
        error = np.abs(np.asarray(found, float) - case["expected"]).max() if same else np.inf
        if not error <= allowed:
            failed.append(name)
            print(f"FAILED: {name} is off by {error:.1e}, allowed {allowed:.1e}")
    return failed
