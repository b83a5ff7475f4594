"""``mlsim``: the program. Errors that mlsim raises on purpose become one line and their exit code."""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

import typer

from mlsim.errors import MlsimError

#: Files of this room that define verbs, in the order of ``mlsim --help``.
GROUPS = (
    "simulation.run_options",
    "simulation.exchange_options",
    "simulation.build",
    "force_data.reference_options",
    "force_data.data",
    "force_data.label_options",
    "training.train",
    "force_fields.deploy",
    "training.refine_options",
    "analysis.analyse",
    "analysis.sample",
    "representations.encode",
    "representations.detect",
    "representations.ask",
    "design.design",
    "doctor",
)

#: Base of the argument parser's own errors (typer brings its own copy of click in some versions).
_USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="mlsim",
    help="Molecular dynamics of peptides with learned implicit solvents, inside OpenMM.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _group in GROUPS:
    importlib.import_module(f"mlsim.cli.{_group}").register(app)


def main() -> None:
    """Entry point of the ``mlsim`` command."""
    warnings.formatwarning = _one_line
    warnings.filterwarnings("ignore", message=".*TorchScript.*|.*torch.jit.*", category=DeprecationWarning)
    try:
        code = app(standalone_mode=False)
    except MlsimError as error:
        _say(" ".join(str(error).split()))
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
    sys.exit(code if isinstance(code, int) else 0)


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning for the user of the program: the words, without the line of source that warned."""
    return f"warning: {' '.join(str(message).split())}\n"


def _say(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
