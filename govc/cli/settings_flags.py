"""Settings as flags of a command, and putting them together."""

import os
from collections.abc import Callable
from typing import Any

import click

from govc.settings import FIELDS, BadSetting, Settings, environment_name, load_settings

DEFAULT_CONFIG = "govc.toml"


def setting_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add one flag per field of Settings (`root` is the argument DIR)."""
    for knob in reversed(FIELDS):
        if knob.name == "root":
            continue
        flag = f"--{knob.name.replace('_', '-')}"
        unit = f", in {knob.metadata['unit']}" if knob.metadata["unit"] else ""
        text = f"{knob.metadata['reason']}{unit} [{environment_name(knob.name)}]"
        if "bool" in str(knob.type):
            option = click.option(f"{flag}/--no-{flag[2:]}", knob.name, default=None, help=text)
        else:
            option = click.option(flag, knob.name, default=None, help=text)
        command = option(command)
    return command


def load_chosen(config: str | None, root: str | None, flags: dict[str, Any]) -> Settings:
    """Return the settings from file, environment and flags; a bad one ends the command with its sentence."""
    if config is None and "GOVC_CONFIG" not in os.environ and os.path.exists(DEFAULT_CONFIG):
        config = DEFAULT_CONFIG
    try:
        return load_settings(os.environ, file_path=config, flags={**flags, "root": root})
    except BadSetting as error:
        raise click.ClickException(str(error)) from error
