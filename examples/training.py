"""What the training scripts share: a split, a training loop, the export, the sample files and a last check."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import nn

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Dataset(NamedTuple):
    """Samples with their labels.

    Attributes:
        x: float32, shape (samples, features).
        y: int64, shape (samples,): the class of each sample, from 0.
    """

    x: Floats
    y: Labels

    def take(self, count: int) -> Dataset:
        """Return the first `count` samples."""
        return Dataset(self.x[:count], self.y[:count])


def begun(script: str, description: str | None, *, reads_data: bool = False) -> argparse.Namespace:
    """Return what a training script was told on the command line (`output`, `seed`, maybe `data`), after seeding.

    Args:
        script: Its file: the folder of that is written to unless another is named.
        description: Its docstring.
        reads_data: Whether it reads the data file of `examples.mnist.train`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if reads_data:
        parser.add_argument("--data", type=Path, required=True, help="the .npz file of examples.mnist.train")
    parser.add_argument("-o", "--output", type=Path, default=Path(script).parent, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    seed_everything(args.seed)
    return args


def seed_everything(seed: int) -> None:
    """Make the weights that follow a function of `seed` alone (on one machine with one version of PyTorch)."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # sums split over threads depend on how many there are


def split(x: npt.ArrayLike, y: npt.ArrayLike, test: int, seed: int) -> tuple[Dataset, Dataset]:
    """Shuffle samples and return (training, test), `test` of them in the second."""
    features, labels = np.asarray(x, dtype=np.float32), np.asarray(y, dtype=np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    return Dataset(features[order[test:]], labels[order[test:]]), Dataset(features[order[:test]], labels[order[:test]])


def train(
    model: nn.Sequential,
    data: Dataset,
    *,
    epochs: int,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-2,
    batch: int = 32,
) -> None:
    """Fit `model` to `data` with AdamW, in place.

    The loss is the cross-entropy: of one probability when the model ends in a Sigmoid, of logits otherwise. Weight
    decay keeps the weights close together, which costs little accuracy and leaves more of it in 8-bit integers.
    """
    binary = isinstance(model[-1], nn.Sigmoid)
    loss_of = nn.BCELoss() if binary else nn.CrossEntropyLoss()
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    target = y.to(torch.float32).unsqueeze(1) if binary else y
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad()
            loss_of(model(x[chosen]), target[chosen]).backward()
            optimizer.step()
        schedule.step()


def save(folder: Path, name: str, model: nn.Module, *, calibration: Dataset, samples: Dataset) -> None:
    """Write `name`.onnx, calibration.npz and samples.npz to `folder`, then print what onnxruntime scores on them."""
    path = folder / f"{name}.onnx"
    path.write_bytes(_to_onnx(model.eval(), samples.x[:2]).SerializeToString(deterministic=True))
    np.savez_compressed(folder / "calibration.npz", x=calibration.x, y=calibration.y)
    np.savez_compressed(folder / "samples.npz", x=samples.x, y=samples.y)
    print(f"{path}: {path.stat().st_size:,} bytes")
    for label, data in (("calibration (seen in training)", calibration), ("samples (unseen)", samples)):
        print(f"  {label}: {accuracy(path, data):.2%} of {len(data.y)} right")


def accuracy(path: Path, data: Dataset) -> float:
    """Return the share of samples that onnxruntime classifies as labelled."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: data.x})
    decided = scores[:, 0] >= 0.5 if scores.shape[1] == 1 else scores.argmax(axis=1)
    return float(np.mean(decided == data.y))


def _to_onnx(model: nn.Module, example: Floats) -> onnx.ModelProto:
    """Export a module whose batch dimension is left open."""
    program = torch.onnx.export(
        model,
        (torch.from_numpy(example),),
        input_names=["x"],
        output_names=["scores"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    _drop_metadata(proto)
    return proto


def _drop_metadata(proto: onnx.ModelProto) -> None:
    """Remove the exporter's notes: stack traces, which name the files of the machine that exported."""
    graph = proto.graph
    for item in (proto, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        item.ClearField("metadata_props")
