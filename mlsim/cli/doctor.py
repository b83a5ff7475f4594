"""``mlsim doctor``: what is installed, what is usable, and what to do about what is not."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("doctor")(doctor)


def doctor() -> None:
    """Print versions, OpenMM platforms, bridges and shipped models; exit code 1 if mlsim cannot run."""
    from mlsim.workflow.health import examine

    findings = examine()
    width = max(len(f.topic) for f in findings)
    for finding in findings:
        mark = {"ok": "ok  ", "note": "note", "bad": "BAD "}[finding.state]
        print(f"{mark} {finding.topic:<{width}}  {finding.text}")
        if finding.advice:
            print(f"     {'':<{width}}  -> {finding.advice}")
    if any(f.state == "bad" for f in findings):
        raise typer.Exit(1)
