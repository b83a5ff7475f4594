"""``mlsim ask``: phrases of a folder of texts that answer a question."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mlsim.repr.quip.quip_encoder import QuipEncoder
    from mlsim.repr.quip.tasks.phrase_index import PhraseIndex


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
    index: Annotated[Path | None, typer.Option(help="Keep the encoded texts here and use them again.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of answers.")] = 5,
) -> None:
    """Search a folder of texts for the phrases that answer QUESTION best.

    The shipped encoder knows invented template sentences only; for real literature give the released QuIP weights.
    """
    from mlsim.repr.quip.quip_encoder import QuipEncoder

    made = QuipEncoder.from_pretrained(encoder, heads=heads, tokenizer=tokenizer)
    answers = _index(made, folder, index).query(made, question, top)
    typer.echo(f"{'score':>8s}  {'answer':<28s} {'source':<24s} passage")
    for a in answers:
        begin = max(a.start - 30, 0)
        around = " ".join(a.passage[begin : a.start + len(a.text) + 30].split())
        typer.echo(f"{a.score:8.2f}  {a.text:<28s} {a.source:<24s} {'...' if begin else ''}{around}")


def _index(encoder: QuipEncoder, folder: Path, kept: Path | None) -> PhraseIndex:
    """The kept index if it is of these texts and this encoder, else a new one."""
    import sys

    from tqdm import tqdm

    from mlsim.repr.quip.tasks.library import read_folder
    from mlsim.repr.quip.tasks.phrase_index import INDEX, PhraseIndex

    texts = read_folder(folder)
    if kept is not None and (kept / INDEX).is_file():
        found = PhraseIndex.load(kept)
        if found.digest == encoder.digest() and found.texts == tuple(texts):
            return found
        typer.echo(f"{kept}: texts or encoder have changed; building the index again", err=True)
    with tqdm(total=len(texts), unit="text", disable=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.update(done - bar.n)

        made = PhraseIndex.build(encoder, texts, progress=show)
    if kept is not None:
        made.save(kept)
    return made
