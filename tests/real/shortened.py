"""Draft models made from a real one by leaving out its last layers."""

from __future__ import annotations

from pathlib import Path

from gguf import GGUFReader, GGUFValueType, GGUFWriter


def shortened(source: Path, path: Path, layers: int) -> Path:
    """Writes the first layers of a model, with its embeddings and its vocabulary."""
    reader = GGUFReader(str(source))
    architecture = str(reader.fields["general.architecture"].contents())
    writer = GGUFWriter(str(path), arch=architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        inner = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
        value = layers if field.name == f"{architecture}.block_count" else field.contents()
        writer.add_key_value(field.name, value, field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        block = tensor.name.split(".")[1] if tensor.name.startswith("blk.") else "0"
        if int(block) < layers:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
