"""``mlsim ask``: phrases of a folder of texts that answer a question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("ask")(ask)


def ask(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Texts: .txt .md .rst .log, and remarks of .pdb.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help='For instance "What inhibits Trakozin?".')],
    encoder: Annotated[str, typer.Option("--encoder", help="Shipped name, saved directory, or a RoBERTa.")] = (
        "quip-facts"
    ),
    heads: Annotated[Path | None, typer.Option(help="Directory of the released head files.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer of the released weights.")] = None,
    index: Annotated[Path | None, typer.Option(help="Directory of the encoded texts, kept and used again.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of answers.")] = 5,
) -> None:
    """Search a folder of texts for the phrases that answer QUESTION best.

    The shipped encoder knows invented template sentences only; for real literature give the released QuIP weights.
    """
    import sys

    from tqdm import tqdm

    from mlsim.workflow.representations import ask_texts

    made = ask_texts.encoder_of(encoder, heads, tokenizer)
    with tqdm(unit="text", disable=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        answers = ask_texts.ask(folder, question, made, top, index, show)
    typer.echo(f"{'score':>8s}  {'answer':<28s} {'source':<24s} passage")
    for a in answers:
        begin = max(a.start - 30, 0)
        around = " ".join(a.passage[begin : a.start + len(a.text) + 30].split())
        typer.echo(f"{a.score:8.2f}  {a.text:<28s} {a.source:<24s} {'...' if begin else ''}{around}")
