"""``mlsim``: the program. Errors that mlsim raises on purpose become one line and their exit code."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from typing import Annotated, Any, TextIO

import typer

from mlsim.cli.panels import PanelGroup
from mlsim.errors import MlsimError

#: Panels of ``mlsim --help`` -> the files of this room that define their verbs, in the order of the help.
PANELS = {
    "Simulation": ("simulation.build_options", "simulation.run_options", "simulation.exchange_options"),
    "Force data": ("force_data.reference_options", "force_data.label_options", "force_data.data"),
    "Training": ("training.train", "training.refine_options"),
    "Force fields": ("force_fields.field_options",),
    "Analysis": ("analysis.analyse", "analysis.sample"),
    "Encoders": ("representations.encode", "representations.detect", "representations.ask"),
    "Design": ("design.design",),
    "Installation": ("doctor",),
}

#: Base of the argument parser's own errors (typer brings its own copy of click in some versions).
_USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

#: Characters that a terminal takes for commands -> how they are shown.
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t\r"}

app = typer.Typer(
    name="mlsim",
    cls=PanelGroup,
    help="Molecular dynamics of peptides with learned implicit solvents, inside OpenMM.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _panel, _files in PANELS.items():
    for _file in _files:
        importlib.import_module(f"mlsim.cli.{_file}").register(app)
    _verb: Any
    for _verb in (*app.registered_commands, *app.registered_groups):
        if not isinstance(_verb.rich_help_panel, str):  # has no panel yet: of the files of this one
            _verb.rich_help_panel = _panel


def _print_version(asked: bool) -> None:
    if asked:
        import mlsim

        print(f"mlsim {mlsim.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Version of mlsim.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself; its help text is the one of ``app``."""


def main() -> None:
    """Entry point of the ``mlsim`` command."""
    warnings.formatwarning = _one_line
    warnings.filterwarnings("ignore", message=".*TorchScript.*|.*torch.jit.*", category=DeprecationWarning)
    try:
        with contextlib.redirect_stdout(_Plain(sys.stdout)):
            code = app(standalone_mode=False)
    except MlsimError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except typer.Abort:
        _say("interrupted")
        sys.exit(130)
    except _USAGE_ERROR as error:
        _say(error.format_message())
        sys.exit(2)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:  # of a place that no door looked at
        _say(f"{error.filename}: {error.strerror or error}" if error.filename is not None else str(error))
        sys.exit(2)
    except MemoryError:
        _say("not enough memory; use fewer frames, particles or atoms at once, or a machine with more")
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning for the user of the program: the words, without the line of source that warned."""
    return f"warning: {' '.join(str(message).split())}\n"


def _say(message: str) -> None:
    print(f"error: {' '.join(message.split()).translate(_VISIBLE)}", file=sys.stderr)


class _Plain:
    """An output without characters that command a terminal: names and texts may come from the files of others."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text``; control characters as ``\\x1b``."""
        self._stream.write(text.translate(_VISIBLE))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


if __name__ == "__main__":
    main()
