"""The task as a plain Ray Tune + Optuna script does it, to compare the study's search with.

    python tests/benchmarks/plain_tune.py --trials 40 --seed 0 --target 0.845

DataLoader, a plain loop, OptunaSearch and ASHAScheduler as their documentation shows; the loss and
the mAP are the study's own, which flatters it. Prints what a target took, in epochs and in
core-seconds of the trials' processes, without their start.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

EPOCHS = 9


def network() -> nn.Module:
    """The seed study's."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
    )


def tensors(images: Any) -> TensorDataset:
    pixels = torch.from_numpy(images.pixels[images.rows]).float().div(127.5).sub(1)
    return TensorDataset(pixels, torch.from_numpy(images.labels))


def train(config: dict[str, Any]) -> None:
    sys.path.insert(0, str(ROOT))
    from trainables.data import resolve
    from trainables.losses import smooth_ap_loss
    from trainables.metrics import evaluate_retrieval

    torch.manual_seed(0)
    split = resolve("fashion_mnist").split()
    loader = DataLoader(
        tensors(split.train), batch_size=config["batch_size"], shuffle=True, drop_last=True
    )
    validation = DataLoader(tensors(split.validation), batch_size=1_000)
    model = network()
    optimizer = torch.optim.Adam(
        model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )
    for epoch in range(EPOCHS):
        start = time.process_time()
        model.train()
        for pixels, labels in loader:
            embeddings = nn.functional.normalize(model(pixels))
            loss = smooth_ap_loss(embeddings, labels, tau=config["tau"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            pairs = [(nn.functional.normalize(model(x)), y) for x, y in validation]
        embeddings, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        index = torch.arange(len(labels))
        result = evaluate_retrieval(embeddings, labels, embeddings, labels, query_index=index)
        spent = time.process_time() - start
        tune.report({"map": result.mean_average_precision, "epoch": epoch + 1, "spent": spent})


def main() -> None:
    parser = argparse.ArgumentParser(description="The task in a plain Ray Tune + Optuna script.")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", type=float, default=0.845)
    options = parser.parse_args()
    ray.init(address="local", include_dashboard=False)
    space = {
        "lr": tune.loguniform(1e-4, 1e-1),
        "batch_size": tune.choice([64, 128, 256, 512]),
        "weight_decay": tune.loguniform(1e-6, 1e-2),
        "tau": tune.loguniform(5e-4, 0.5),
    }
    spent, epochs, best = 0.0, 0, 0.0

    class Watch(tune.Callback):
        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any
        ) -> None:
            nonlocal spent, epochs, best
            spent, epochs = spent + result["spent"], epochs + 1
            if result["map"] > best:
                reached = best < options.target <= result["map"]
                best = result["map"]
                mark = f"  <- {options.target}" if reached else ""
                print(f"{epochs} epochs, {spent:.0f} core-s: {best:.4f}{mark}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        tune.Tuner(
            tune.with_resources(train, {"cpu": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(
                metric="map",
                mode="max",
                search_alg=OptunaSearch(seed=options.seed),
                scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=3),
                num_samples=options.trials,
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0, callbacks=[Watch()]),
        ).fit()
    print(f"all {options.trials} trials: {epochs} epochs, {spent:.0f} core-s: {best:.4f}")


if __name__ == "__main__":
    main()
