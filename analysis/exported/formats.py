"""The three formats: each writes a network to a folder, and loads it from there again."""

from __future__ import annotations

import importlib.util
import inspect
import io
import json
import logging
import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from analysis.exported import plain_network
from analysis.exported.plain_network import Network
from analysis.exported.trunks import Recipe, body, recipe, without_folder
from study.results.files import StudyError
from trainables.networks import Input
from trainables.trained import ORIGIN, Origin

PICTURES, EMBEDDINGS = "pictures", "embeddings"  # an ONNX graph's input and output
ONE_FILE = 1_900_000_000  # bytes of weights: ONNX files of 2 GiB and more keep theirs beside them
OTHER = " (--format safetensors asks for no such thing)"
IMPORTS = (  # of network.py, whatever its trunk
    "import torch",
    "import torch.nn.functional as F",
    "from safetensors.torch import load_file",
    "from torch import Tensor, nn",
)
Embed = Callable[[Tensor], Tensor]  # (B, C, H, W) in [0, 1] → (B, D)


class Source(NamedTuple):
    """What is to be exported.

    Attributes:
        network: in torch's layers, in evaluation mode, on the CPU.
        title: of its trunk, as studies name it.
        wants: its input.
        shape: (C, H, W) of a picture.
        width: D of an embedding.
        origin: what it was trained on.
    """

    network: Network
    title: str
    wants: Input
    shape: tuple[int, int, int]
    width: int
    origin: Origin

    @property
    def name(self) -> str:
        """The title; of a file without its folder."""
        return without_folder(self.title)


class Format(NamedTuple):
    """One of them.

    Attributes:
        write: puts the network into a folder.
        load: takes it from there, by nothing of this project; None where that cannot be done here.
        needs: the modules that writing needs beside those of this project.
    """

    write: Callable[[Source, Path], None]
    load: Callable[[Path], Embed | None]
    needs: tuple[str, ...] = ()


def check_installed(name: str) -> None:
    """StudyError unless all is installed that a format needs."""
    lost = [one for one in FORMATS[name].needs if importlib.util.find_spec(one) is None]
    if lost:
        law = f"--format {name} needs {' and '.join(lost)}"
        raise StudyError(f"{law}, of the extra [{name}]: pip install --editable '.[{name}]'")


def _write_safetensors(source: Source, folder: Path) -> None:
    """The trunk's weights by their library's names, the head's apart, and what builds both."""
    made = recipe(source.title, source.wants)
    parts = {"trunk": source.network.trunk}
    if isinstance(source.network.head, nn.Linear):
        parts["head"] = source.network.head
    said = {ORIGIN: json.dumps(source.origin._asdict())}
    for name, part in parts.items():  # each tensor for itself: the format shares none
        weights = {key: one.clone() for key, one in part.state_dict().items()}
        (folder / f"{name}.safetensors").write_bytes(safetensors.torch.save(weights, said))
    (folder / "network.py").write_text(_network_code(source, made), encoding="utf-8")
    for name, text in made.files:
        (folder / name).write_text(text, encoding="utf-8")


def _network_code(source: Source, made: Recipe) -> str:
    """network.py: imports, the trunk, the whole, and how weights get into it."""
    imports = "\n".join(sorted([*IMPORTS, *made.imports], key=_module))
    head, lines = source.network.head, ""
    if isinstance(head, nn.Linear):
        build = f"nn.Linear({head.in_features}, {head.out_features})"
        lines = '\n    head.load_state_dict(load_file(HERE / "head.safetensors"))'
    else:
        build = "nn.Identity()"
    return f'''"""{source.name}: `load()` gives it with its weights."""

from __future__ import annotations

from pathlib import Path

{imports}

HERE = Path(__file__).resolve().parent


{made.code}

{body(inspect.getsource(plain_network))}

def load() -> nn.Module:
    """The network in evaluation mode."""
    body, head = trunk(), {build}
    body.load_state_dict(load_file(HERE / "trunk.safetensors")){lines}
    return Network(body, head, mean={source.wants.mean}, std={source.wants.std}).eval()
'''


def _module(statement: str) -> str:
    return statement.split()[1]


def _load_safetensors(folder: Path) -> Embed:
    return runpy.run_path(str(folder / "network.py"))["load"]()


def _traced(source: Source) -> torch.export.ExportedProgram:
    """The network as a graph that takes any number of pictures.

    Raises:
        StudyError: torch cannot trace it.
    """
    batch = {0: torch.export.Dim("batch")}
    pictures = torch.zeros(2, *source.shape)
    try:
        with _silent():
            program = torch.export.export(source.network, (pictures,), dynamic_shapes=(batch,))
    except Exception as error:  # a network is its owner's: tracing it may raise anything
        raise StudyError(
            f"{source.name} cannot be traced by torch{OTHER}: {_one_line(error)}"
        ) from error
    for node in program.graph.nodes:  # where on this machine the code lies is nobody's business
        node.meta.pop("stack_trace", None)
        node.meta.pop("nn_module_stack", None)
    return program


def _write_torch(source: Source, folder: Path) -> None:
    torch.export.save(_traced(source), folder / "network.pt2")


def _load_torch(folder: Path) -> Embed:
    return torch.export.load(folder / "network.pt2").module()


def _write_onnx(source: Source, folder: Path) -> None:
    """StudyError if torch cannot trace the network, or ONNX lacks one of its operations."""
    import onnx  # an extra

    batch = {0: torch.export.Dim("batch")}
    try:
        with _silent():
            program = torch.onnx.export(
                source.network,
                (torch.zeros(2, *source.shape),),
                dynamo=True,
                dynamic_shapes=(batch,),
                input_names=[PICTURES],
                output_names=[EMBEDDINGS],
                verbose=False,
            )
        assert program is not None
        model = program.model_proto
    except Exception as error:  # as for torch; and operations that ONNX lacks
        raise StudyError(
            f"{source.name} cannot be put into ONNX{OTHER}: {_one_line(error)}"
        ) from error
    for node in model.graph.node:  # paths of this machine
        node.ClearField("metadata_props")
    beside = sum(one.nbytes for one in source.network.state_dict().values()) > ONE_FILE
    onnx.save(model, folder / "network.onnx", save_as_external_data=beside, location="weights.bin")


def _load_onnx(folder: Path) -> Embed | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    path = str(folder / "network.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def embed(pictures: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {PICTURES: pictures.numpy()})[0])

    return embed


@contextmanager
def _silent() -> Iterator[None]:
    """Without torch's log and prints, of which what matters is in its error too."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _one_line(error: BaseException) -> str:
    """The first line of what began it, under the name of its kind."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


FORMATS = {
    "safetensors": Format(_write_safetensors, _load_safetensors),
    "torch": Format(_write_torch, _load_torch),
    "onnx": Format(_write_onnx, _load_onnx, needs=("onnx", "onnxscript")),
}
