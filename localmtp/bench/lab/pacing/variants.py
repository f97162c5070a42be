"""Derives pairs from nano or another pair, without training: larger, flatter, a weaker drafter.

nano fits a processor's caches and its drafter is mostly right. Whether a change to pacing or
sampling pays depends on both, so it is measured on derived pairs too:

    python -m localmtp.bench.lab.pacing.variants OUT --megabytes 400 --vague 1.5 --noise 0.3

- megabytes: the MLPs are widened with units whose down projection is zero. Results are unchanged,
  but a pass reads this much more memory and is bound by it, like that of a real model.
- vague: logits are divided by this number, so that temperature 1 samples as this temperature did.
  Final norms and soft cap are scaled, and the projection of hidden states compensates: greedy
  answers and drafts are unchanged.
- noise: added to the drafter's matrices, relative to their standard deviation. Fewer drafts are
  accepted; the text is unchanged.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib.resources import as_file
from importlib.resources import files as resources
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, ReaderTensor
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from localmtp.models.embedded import NANO

Floats = NDArray[np.float32]
Data = NDArray[np.generic]

_UNIT = 256
"""MLPs are widened by multiples of this number of units, for tiled kernels."""

_LENGTH, _CAP = "feed_forward_length", "final_logit_softcapping"


class _File:
    """A GGUF file in memory that can be changed and written."""

    def __init__(self, path: Path) -> None:
        reader = GGUFReader(path)
        self._fields = {
            name: (field.contents(), field.types)
            for name, field in reader.fields.items()
            if not name.startswith("GGUF.")
        }
        self._architecture, _ = self._fields.pop("general.architecture")
        self.tensors: dict[str, ReaderTensor] = {t.name: t for t in reader.tensors}
        self.data: dict[str, Data] = {t.name: t.data for t in reader.tensors}

    def change(self, key: str, make: Callable[[float], float]) -> None:
        """Change an entry of the architecture; in an array, each element."""
        name = f"{self._architecture}.{key}"
        value, types = self._fields[name]
        self._fields[name] = ([*map(make, value)] if types[1:] else make(value), types)

    def scale(self, name: str, make: Callable[[Floats], Floats]) -> None:
        """Replace a tensor, in its own type."""
        kind = self.tensors[name].tensor_type
        made = make(dequantize(self.data[name], kind))
        self.data[name] = quantize(made.astype(np.float32), kind)

    def write(self, path: Path) -> None:
        """Write the file."""
        writer = GGUFWriter(path, self._architecture)
        for name, (value, types) in self._fields.items():
            inner = types[-1] if types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(name, value, types[0], inner)
        for name, data in self.data.items():
            writer.add_tensor(name, data, raw_dtype=self.tensors[name].tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def widen(file: _File, megabytes: float) -> None:
    """Add units to every MLP, of this size in all, that do not change its output."""
    gates = [name for name in file.data if name.endswith("ffn_gate.weight")]
    per_unit = sum(3 * file.data[name][0].nbytes for name in gates)
    units = round(megabytes * 1e6 / per_unit / _UNIT) * _UNIT
    for gate in gates:
        for name in (gate, gate.replace("gate", "up")):
            rows, width = file.data[name].shape
            # Repeated units are read from memory at the same speed.
            file.data[name] = np.resize(file.data[name], (rows + units, width))
        name = gate.replace("gate", "down")
        rows, width = file.data[name].shape
        per_number = width / file.tensors[gate].shape[1]
        nothing = np.zeros((rows, int(units * per_number)), file.data[name].dtype)
        file.data[name] = np.hstack((file.data[name], nothing))
    file.change(_LENGTH, lambda length: int(length) + units)


def flatten(target: _File, drafter: _File, temperature: float) -> None:
    """Divide both models' logits by `temperature`."""
    for file in (target, drafter):
        file.scale("output_norm.weight", lambda norm: norm / temperature)
    target.change(_CAP, lambda cap: cap / temperature)

    def restored(projection: Floats) -> Floats:
        half = projection.shape[1] // 2  # [embedding of the token, hidden row]
        return np.hstack((projection[:, :half], projection[:, half:] * temperature))

    drafter.scale("nextn.pre_projection.weight", restored)


def disturb(drafter: _File, noise: float) -> None:
    """Add noise to every matrix, relative to its standard deviation."""
    random = np.random.default_rng(0)
    for name, tensor in drafter.tensors.items():
        if tensor.tensor_type == GGMLQuantizationType.Q8_0:
            drafter.scale(name, lambda old: old + noise * old.std() * random.normal(size=old.shape))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a pair as the command line says."""
    parser = argparse.ArgumentParser(description="Derive a pair from nano.")
    parser.add_argument("out", type=Path, help="directory for the two files")
    parser.add_argument(
        "--pair", type=Path, nargs=2, metavar=("TARGET", "DRAFTER"), help="instead of nano's"
    )
    parser.add_argument(
        "--megabytes", type=float, default=0, help="additional weights of the target"
    )
    parser.add_argument(
        "--drafter-megabytes", type=float, default=0, help="additional weights of the drafter"
    )
    parser.add_argument("--vague", type=float, default=1, help="divisor of the logits")
    parser.add_argument(
        "--noise", type=float, default=0, help="noise in the drafter, about 0.1 to 1"
    )
    options = parser.parse_args(arguments)
    with as_file(resources("localmtp.models") / NANO) as shipped:
        paths = options.pair or (shipped / "nano-Q8_0.gguf", shipped / "mtp-nano-Q8_0.gguf")
        target, drafter = map(_File, paths)
        widen(target, options.megabytes)
        widen(drafter, options.drafter_megabytes)
        if options.noise:
            disturb(drafter, options.noise)
        if options.vague != 1:
            flatten(target, drafter, options.vague)
        options.out.mkdir(parents=True, exist_ok=True)
        for file, path in zip((target, drafter), paths, strict=True):
            file.write(options.out / path.name)


if __name__ == "__main__":
    main()
