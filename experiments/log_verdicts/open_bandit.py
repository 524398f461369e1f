"""The small logs of the Open Bandit Dataset, which the source distribution of `obp` holds: they are fetched, not kept.

Bernoulli Thompson sampling showed clothes to people; what would uniform choice have been worth? Other logs, of uniform
choice itself, know. With `OBP_SDIST` set, that archive is read in place of a fetched one.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from isjax import ope

CAMPAIGNS = ("men", "women")
COLUMNS = {"mu": "propensity_score", "action": "item_id", "reward": "click"}


def archive(folder: Path) -> Path:
    """The source distribution of obp, from the index of packages that pip is set to."""
    if "OBP_SDIST" in os.environ:
        return Path(os.environ["OBP_SDIST"])
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "obp",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--dest",
        str(folder),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("obp-*.tar.gz"))


def table(content: tarfile.TarFile, policy: str, campaign: str) -> pd.DataFrame:
    """One log as it is."""
    name = next(x for x in content.getnames() if x.endswith(f"obd/{policy}/{campaign}/{campaign}.csv"))
    file = content.extractfile(name)
    assert file is not None
    return pd.read_csv(io.BytesIO(file.read()))


def measure() -> dict:
    """Each campaign: the estimates, the verdict, and what uniform choice was worth."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive(Path(folder))) as content:
        for campaign in CAMPAIGNS:
            log = ope.pack(table(content, "bts", campaign), columns=COLUMNS, probabilities=True, target="uniform")
            names = ("ordinary_is", "weighted_is")
            evaluation = ope.evaluate_log(log, 1.0, key=jax.random.key(0), estimators=names)
            ipw, snipw = (evaluation.estimates[name] for name in names)
            found[campaign] = {
                "ipw": ipw.value,
                "snipw": snipw.value,
                "snipw_interval": [snipw.low, snipw.high],
                "effective_sample_size": snipw.effective_sample_size,
                "mean_weight": [snipw.mean_weight, snipw.mean_weight_standard_error],
                "trust": snipw.trust,
                "better": snipw.better,
                "what_ran": evaluation.behavior_value,
                "truth": float(np.mean(table(content, "random", campaign)["click"])),
            }
    return found


if __name__ == "__main__":
    print(measure())
