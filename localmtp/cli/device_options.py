"""Options that place a model: devices, experts, tensors, attention, the model file."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import click

from localmtp.cli.flags.ranges import WholeNumber
from localmtp.engine.device_options import ALL_EXPERTS, DeviceOptions, SplitMode, Switch

Command = TypeVar("Command", bound=Callable[..., Any])


class DeviceNames(click.ParamType["tuple[str, ...]"]):
    """Comma-separated names of devices, or `none`."""

    name = "names"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names; none for `none`."""
        if value == "none":
            return ()
        names = tuple(name.strip() for name in str(value).split(","))
        if not all(names) or len(set(names)) < len(names):
            self.fail(f"{value!r} is not a list of different devices", param, ctx)
        return names


class Shares(click.ParamType["tuple[float, ...]"]):
    """Comma-separated shares, one for each GPU."""

    name = "list"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the shares; at least one is above 0."""
        try:
            shares = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            shares = ()
        if not sum(shares) > 0 or not all(0 <= share < 1e9 for share in shares):
            self.fail(f"{value!r} is not a list of shares, such as 3,1", param, ctx)
        return shares


class TensorPlace(click.ParamType["tuple[str, str]"]):
    """REGEX=DEVICE."""

    name = "place"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return the pattern and the device."""
        pattern, _, place = str(value).rpartition("=")
        try:
            re.compile(pattern)
        except re.error as error:
            self.fail(f"{pattern!r} is not a regular expression: {error}", param, ctx)
        if not pattern or not place:
            self.fail(f"{value!r} is not REGEX=DEVICE, such as 'ffn_down_exps=CPU'", param, ctx)
        return pattern, place


def _switch(name: str, help_text: str) -> Callable[[Any], Any]:
    return click.option(
        name,
        type=click.Choice([each.value for each in Switch]),
        default="auto",
        show_default=True,
        help=help_text,
    )


_OPTIONS = (
    click.option(
        "--device",
        type=DeviceNames(),
        help="Devices to use, as `localmtp doctor` names them; `none`.  [default: all]",
    ),
    click.option(
        "--split-mode",
        type=click.Choice([each.value for each in SplitMode]),
        default="layer",
        show_default=True,
        help="Several GPUs: divide by layers, or use one.",
    ),
    click.option(
        "--tensor-split",
        type=Shares(),
        help="Share of the layers for each GPU, such as 3,1.  [default: by free memory]",
    ),
    click.option(
        "--main-gpu",
        type=WholeNumber(min=0),
        default=0,
        help="Number of the GPU of --split-mode none.  [default: 0]",
    ),
    click.option("--cpu-moe", is_flag=True, help="Keep the experts of all layers in main memory."),
    click.option(
        "--n-cpu-moe",
        type=WholeNumber(0, ALL_EXPERTS),
        metavar="N",
        help="Keep the experts of the first N layers there.  [default: those that do not fit]",
    ),
    click.option(
        "--override-tensor",
        type=TensorPlace(),
        multiple=True,
        metavar="REGEX=DEVICE",
        help="Place tensors by name, on CPU or a device; repeatable, the first match applies.",
    ),
    click.option("--no-kv-offload", is_flag=True, help="Keep the KV cache in main memory."),
    _switch("--flash-attn", "Flash attention."),
    _switch("--repack", "Copy weights that the CPU multiplies to its faster layout."),
    click.option("--no-mmap", is_flag=True, help="Read the file instead of mapping it."),
    click.option("--mlock", is_flag=True, help="Never swap the model out."),
    _switch("--device-sampling", "Choose tokens on the device, where it has the logits."),
)
_FLAGS = (
    *("device", "split_mode", "tensor_split", "main_gpu", "cpu_moe", "n_cpu_moe"),
    *("override_tensor", "no_kv_offload", "flash_attn", "repack", "no_mmap", "mlock"),
    "device_sampling",
)


def device_options(command: Command) -> Command:
    """Add the options, passed as `devices: DeviceOptions`."""

    @wraps(command)
    def call(**given: Any) -> Any:
        flags = {name: given.pop(name) for name in _FLAGS}
        _check_together(flags)
        return command(**given, devices=_options(flags))

    for option in reversed(_OPTIONS):
        call = option(call)
    return cast("Command", call)


def _check_together(flags: dict[str, Any]) -> None:
    """Raises `click.UsageError` for flags that contradict each other."""
    one_device = flags["split_mode"] == SplitMode.NONE.value
    for contradicts, message in (
        (
            flags["cpu_moe"] and flags["n_cpu_moe"] is not None,
            "--cpu-moe and --n-cpu-moe exclude each other: all experts, or those of N layers",
        ),
        (
            flags["main_gpu"] and not one_device,
            "--main-gpu needs --split-mode none: layers are divided among all GPUs",
        ),
        (
            flags["tensor_split"] and one_device,
            "--tensor-split and --split-mode none exclude each other: one GPU has no shares",
        ),
    ):
        if contradicts:
            raise click.UsageError(message, click.get_current_context(silent=True))


def _options(flags: dict[str, Any]) -> DeviceOptions:
    return DeviceOptions(
        names=flags["device"],
        split_mode=SplitMode(flags["split_mode"]),
        tensor_split=flags["tensor_split"] or (),
        main_gpu=flags["main_gpu"],
        cpu_moe=ALL_EXPERTS if flags["cpu_moe"] else flags["n_cpu_moe"],
        overrides=flags["override_tensor"],
        kv_offload=not flags["no_kv_offload"],
        flash_attn=Switch(flags["flash_attn"]),
        repack=Switch(flags["repack"]),
        mmap=not flags["no_mmap"],
        mlock=flags["mlock"],
        sampling=Switch(flags["device_sampling"]),
    )
