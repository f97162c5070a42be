"""Comparisons of `localmtp convert` with llama.cpp's converter, on checkpoints of random weights.

python -m localmtp.bench.lab.convert.parity FOLDER [SHAPE...]
python -m localmtp.bench.lab.convert.cost CHECKPOINT FOLDER [--quant QUANT] [--rounds N]
python -m localmtp.bench.lab.convert.large DIR [MODEL] [--layers N]
"""
