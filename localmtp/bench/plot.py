"""Plots of speedups, as SVG or PNG."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from xml.sax.saxutils import escape

from localmtp.atomic import atomic_write_bytes
from localmtp.bench.report import Setup
from localmtp.bench.results import Results, label
from localmtp.errors import LocalmtpError

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 760, 420, 56, 64, 150, 48

_COLORS = (
    # Okabe and Ito's palette, safe for colour blindness, and grey as an eighth.
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#777777",
)  # fmt: skip


_FONTS = "system-ui, Helvetica, Arial, Noto Sans, DejaVu Sans, Liberation Sans, sans-serif"
"""Font families by name: renderers other than browsers drop text in generic fonts."""

_SCALE = 2
"""Pixels of a PNG per unit of the drawing: sharp on high-density screens."""


def check_plot_file(file: Path) -> None:
    """Check a plot's file name before anything is measured.

    Raises:
        LocalmtpError: it is neither SVG nor PNG, or the package for PNG is not installed.
    """
    if file.suffix not in (".svg", ".png"):
        raise LocalmtpError(f"{file} is neither .svg nor .png", hint="--plot speed.svg")
    if file.suffix == ".png" and find_spec("resvg_py") is None:
        raise LocalmtpError(
            "drawing a PNG needs the package resvg-py",
            hint="pip install 'localmtp[png]', or draw a .svg file",
        )


def draw(setup: Setup, results: Results, file: Path) -> None:
    """Plot the speedup of each workload by draft length, at the first temperature.

    Args:
        setup: what was measured and where.
        results: with at least one workload.
        file: as accepted by `check_plot_file`; replaced if it exists.

    Raises:
        LocalmtpError: the file cannot be written.
    """
    drawing = "\n".join(_lines(setup, results)) + "\n"
    data = _rasterized(drawing) if file.suffix == ".png" else drawing.encode()
    atomic_write_bytes(file, data)


def _rasterized(drawing: str) -> bytes:
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=drawing, zoom=_SCALE))


def _lines(setup: Setup, results: Results) -> Iterator[str]:
    temperature = results.settings[0][0]
    workloads = [name for t, name in results.settings if t == temperature]
    speedups = {
        name: [results.speedup(results.run(temperature, name, n)) for n in results.lengths]
        for name in workloads
    }
    top = max(1.5, *(max(row) for row in speedups.values())) * 1.05

    def x(i: int) -> float:
        return _LEFT + i * (_WIDTH - _LEFT - _RIGHT) / max(1, len(results.lengths) - 1)

    def y(speedup: float) -> float:
        return _TOP + (1 - speedup / top) * (_HEIGHT - _TOP - _BOTTOM)

    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="{_FONTS}" font-size="12" fill="#333">'
    )
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
    yield _text(_LEFT, 26, f"{setup.model}: speedup by draft length", "start", 'font-size="16"')
    yield _text(_LEFT, 44, f"{setup.cpu}, {setup.threads} threads", "start", 'fill="#777"')
    for i in range(int(top / 0.5) + 1):
        weight = "#999" if i == 2 else "#e4e4e4"  # 1: no drafting
        yield (
            f'<path d="M{_LEFT} {y(i / 2):.1f}H{_WIDTH - _RIGHT}" stroke="{weight}" fill="none"/>'
        )
        yield _text(_LEFT - 8, y(i / 2) + 4, f"{i / 2:g}×", "end")
    for i, n in enumerate(results.lengths):
        yield _text(x(i), _HEIGHT - _BOTTOM + 20, "none" if n == 0 else label(n), "middle")
    for at, (name, row) in enumerate(speedups.items()):
        color = _COLORS[at % len(_COLORS)]
        points = " ".join(f"{x(i):.1f},{y(value):.1f}" for i, value in enumerate(row))
        yield f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>'
        for i, value in enumerate(row):
            yield f'<circle cx="{x(i):.1f}" cy="{y(value):.1f}" r="3" fill="{color}"/>'
        key_y = _TOP + 10 + 20 * at
        yield f'<circle cx="{_WIDTH - _RIGHT + 24}" cy="{key_y - 4}" r="5" fill="{color}"/>'
        yield _text(_WIDTH - _RIGHT + 36, key_y, name, "start")
    yield "</svg>"


def _text(x: float, y: float, words: str, anchor: str, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(words)}</text>'
