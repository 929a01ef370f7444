"""README.md of an export: what it is, how to load it, how good it is, what it is not."""

from __future__ import annotations

import json
from typing import Any

import torch

from analysis.exported.formats import Source
from analysis.exported.preprocessing import READER, in_words
from analysis.found.words import epochs, loss_name, plural

CALLED = "embed.py"  # what the card calls a file with its code


def card(name: str, source: Source, facts: dict[str, Any], preprocessing: dict[str, Any]) -> str:
    """The text.

    Args:
        name: of the format.
        facts: what config.json has.
        preprocessing: what preprocessing.json has.
    """
    sections = [
        _what(source, facts),
        _loading(name, source, facts),
        _pictures(preprocessing),
        _data(facts["data"], facts["trained_classes"]),
        _quality(facts),
        _limits(source, facts),
        _origin(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _what(source: Source, facts: dict[str, Any]) -> str:
    weights = sum(one.numel() for one in source.network.parameters())
    loss = loss_name(facts["loss"])
    provisional = ""
    if facts["status"] != "finished":
        provisional = (
            f"\n\n**Provisional: the study was {facts['status']} when this was exported**; what it "
            "chooses in the end may be another network."
        )
    return f"""# Image embeddings by {loss}: {facts["trial"]} of {facts["study"]}

A network (`{source.name}`, {weights:,} weights) that puts pictures of one class near each other:
pictures {_shape(source)}, float32 in [0, 1], become embeddings (B, {source.width}) of unit length.
The higher the dot product of two, the more alike are their pictures. It was trained for
{epochs(facts["epoch"])} with {loss} and began with {facts["began_with"]}.{provisional}"""


def _shape(source: Source) -> str:
    return f"(B, {', '.join(map(str, source.shape))})"


def _loading(name: str, source: Source, facts: dict[str, Any]) -> str:
    return f"""## Use it

Install: `pip install {" ".join(facts["installs"])}`. Put this into `{CALLED}` in this folder:

```python
{_code(name, source)}```

For pictures in files, put this after it (`{READER}` needs numpy and pillow) and call
`python {CALLED} ONE.png OTHER.jpg`:

```python
{_for_files(name)}```

The number of pictures B is free.{_note(name)}"""


def _code(name: str, source: Source) -> str:
    """Python that defines `embed`: no more is needed than what the format asks for."""
    what = f'"""{_shape(source)} float32 in [0, 1] → (B, {source.width}) of unit length."""'
    if name == "onnx":
        return f"""import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("network.onnx", providers=["CPUExecutionProvider"])


def embed(pictures: np.ndarray) -> np.ndarray:
    {what}
    return session.run(None, {{"pictures": pictures}})[0]
"""
    opened = {
        "torch": 'import torch\n\nnetwork = torch.export.load("network.pt2").module()',
        "safetensors": "import torch\n\nfrom network import load\n\nnetwork = load()",
    }
    return f"""{opened[name]}


def embed(pictures: torch.Tensor) -> torch.Tensor:
    {what}
    with torch.no_grad():
        return network(pictures)
"""


def _for_files(name: str) -> str:
    read = "np.stack([read(path) for path in sys.argv[1:]])"
    given = read if name == "onnx" else f"torch.from_numpy({read})"
    return f"""import sys

import numpy as np

from {READER.removesuffix(".py")} import read

embeddings = embed({given})
print(embeddings @ embeddings.T)  # cosines: the higher, the more alike
"""


def _note(name: str) -> str:
    if name == "torch":
        return (
            f" The file was written by torch {torch.__version__.partition('+')[0]}; PyTorch does "
            "not promise that another version reads it."
        )
    if name == "safetensors":
        return (
            " `trunk.safetensors` has the weights by the names of the network's own library, "
            "`head.safetensors` (where there is a linear head) those of the head; scaling and unit "
            "length are in `network.py`."
        )
    return ""


def _pictures(preprocessing: dict[str, Any]) -> str:
    steps = "\n".join(f"{n}. {step}" for n, step in enumerate(in_words(preprocessing), start=1))
    return f"""## From a file to the network's input

{steps}

`preprocessing.json` has the same for machines; `{READER}` does it, by the code that the project
itself reads pictures with. `read(path, box)` takes a part: left, top, right, lower in pixels."""


def _data(data: dict[str, Any], trained: int) -> str:
    lines = [f"`{data['name']}`, {plural(data['classes'], 'class', 'classes')}"]
    lines[0] += f", of which {trained} were trained on." if trained != data["classes"] else "."
    if data["fingerprint"]:
        lines.append(f"Fingerprint of the pictures and their parts: {data['fingerprint']}.")
    if data["held_out"]:
        lines.append(f"Held out, and all that is tested: {', '.join(data['held_out'])}.")
    if data["judging"]:
        lines.append(f"Not trained on, and judged the search: {', '.join(data['judging'])}.")
    if data["protocol"]:
        fold = f", fold {data['fold']} of {data['folds']}" if data["folds"] else ""
        lines.append(f"Protocol: {data['protocol']}{fold}.")
    if data["small"]:
        lines.append("A smoke test: a slice of the data alone.")
    lines += [f"{line}." for line in data["card"]]
    lines.append(f"Licence of the data: {data['licence']}.")
    lines += [f"Beside the data lies {line}." for line in data["licences_beside_it"]]
    return "## Data\n\n" + "\n".join(f"- {line}" for line in lines)


def _which_chose(data: dict[str, Any]) -> str:
    if data["validation_chose"]:
        return "These images chose the network, which flatters it."
    return "Others, of the classes that were trained on, chose the network."


def _quality(facts: dict[str, Any]) -> str:
    """mAP: on which images, how sure, and what chose."""
    found, lines = facts["validation"], []
    if "map" in found:
        sure = _between(found["low"], found["high"])
        lines.append(
            f"mAP on {found['images']}: **{found['map']:.4f}** (95 % over queries: {sure}), "
            f"{found['queries']:,} queries in a gallery of {found['gallery']:,}. "
            f"{_which_chose(facts['data'])}"
        )
    else:
        lines.append("No interval: the validation images were not at hand.")
    lines.append("mAP is that of the full ranking; a query is left out of its own gallery.")
    runs = plural(found["score_over_runs"], "run")
    lines.append(
        f"Chosen by {found['chosen_by']} on the validation images: {found['score']:.4f}, mean of "
        f"{runs}."
    )
    if facts["test"]:
        lines += _tested(facts["test"], found["chosen_by"])
    else:
        lines.append("No test images were read for this card.")
    return "## How well it retrieves\n\n" + "\n".join(f"- {line}" for line in lines)


def _tested(test: dict[str, Any], metric: str) -> list[str]:
    alone = _between(test["low"], test["high"])
    queries = _between(test["query_low"], test["query_high"])
    over, chose = "seeds", "the comparison chose"
    if test["searches"] > 1:
        over, chose = "searches", f"the comparison's {test['searches']} searches chose"
    return [
        f"mAP on the test images, protocol {test['protocol']}, of this very run: "
        f"**{test['map_of_this_run']:.4f}**.",
        f"Of the {test['runs']} runs of what {chose} for this loss: {test['map']:.4f} "
        f"(95 % over {over}: {alone}; over queries: {queries}).",
    ]


def _between(low: float | None, high: float | None) -> str:
    return "not known" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _limits(source: Source, facts: dict[str, Any]) -> str:
    height, width = source.shape[1:]
    lines = [
        "The intervals are over queries that share a gallery, so they are too narrow; they say "
        "nothing of other data.",
        f"It knows pictures like those of `{facts['data']['name']}`. Of other kinds, and of "
        "classes it was not trained on, only what is measured above is known.",
        f"It takes {height} x {width} pixels: what cannot be seen at that size is lost.",
        "No robustness was measured: not to turns, noise, other cameras or drawings, nor to "
        "pictures made to deceive it.",
        "Embeddings compare with those of this very network alone "
        f"(fingerprint {facts['fingerprint']}).",
        "Weights are computed from pictures: whether the licence of the data, or of weights it "
        "began with, reaches them is for you to judge.",
    ]
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _origin(facts: dict[str, Any]) -> str:
    config = facts["configuration"]
    knobs = {"lr": config["lr"], "batch_size": config["batch_size"], "seed": config["seed"]}
    knobs = {"optimizer": config["optimizer"], **config["loss_args"], **knobs}
    said = ", ".join(f"{name} {json.dumps(value)}" for name, value in knobs.items())
    return f"""## Where it comes from

Trial `{facts["trial"]}` at epoch {facts["epoch"]:g} of study `{facts["study"]}`, made at commit
{facts["commit"] or "unknown"}: {said}.
`config.json` has all of it. Exported by `analysis/export.py`; {_agreement(facts)}."""


def _agreement(facts: dict[str, Any]) -> str:
    if facts["largest_difference"] is None:
        return "the export was not compared with the network, as onnxruntime was not there"
    return (
        "the export's embeddings differ from the network's by at most "
        f"{facts['largest_difference']:.0e}"
    )
