"""Entry point: runs the program and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from qakhunt.core import streams
from qakhunt.core.errors import ExitCode, OutputError, QakhuntError

_COMPLETION = "_QAKHUNT_COMPLETE"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its documented code."""
    streams.install()
    # Like a Ctrl-C, so that the run ends in order and leaves no temporary file.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = run(arguments)
    try:
        sys.stdout.flush()
    except QakhuntError as problem:
        _report(problem)
        code = code or int(problem.exit_code)
    if code == ExitCode.INTERRUPTED:
        # A request that still waits for a service must not hold an interrupted program.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code. Never raises for a user's mistake."""
    try:
        from qakhunt.cli.app import app

        return _invoke(app, arguments)
    except QakhuntError as problem:
        _report(problem)
        return int(problem.exit_code)
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as problem:
        # DuckDB makes this of a Ctrl-C that comes while it works.
        if type(problem) is RuntimeError and str(problem) == "Query interrupted":
            return _interrupted()
        if isinstance(problem, OSError) and problem.filename is not None:
            _report(OutputError(f"cannot use {problem.filename}: {problem.strerror}"))
            return int(ExitCode.USAGE)
        return _bug()


def _interrupted() -> int:
    for second in (signal.SIGINT, signal.SIGTERM):  # must not undo the order
        signal.signal(second, signal.SIG_IGN)
    print("interrupted", file=sys.stderr)
    return int(ExitCode.INTERRUPTED)


def _invoke(app: Any, arguments: list[str] | None) -> int:
    import typer

    command = typer.main.get_command(app)
    try:
        if _COMPLETION in os.environ:
            command.main(prog_name="qakhunt")
        # Not main(): it turns a closed pipe into exit code 1 and hides interrupts.
        given = sys.argv[1:] if arguments is None else list(arguments)
        with command.make_context("qakhunt", given) as context:
            result = command.invoke(context)
    except Exception as problem:
        # Typer brings its own copy of click or uses the real one, by version.
        if hasattr(problem, "format_message") and hasattr(problem, "exit_code"):
            return _usage(problem)
        if type(problem).__name__ in ("Abort", "Exit"):
            return int(getattr(problem, "exit_code", ExitCode.INTERRUPTED))
        raise
    return int(result or 0)


def _usage(problem: Any) -> int:
    message = str(problem.format_message())
    if type(problem).__name__ == "NoArgsIsHelpError":
        print(message)
        return int(ExitCode.USAGE)
    print(f"error: {message[:1].lower()}{message[1:]}", file=sys.stderr)
    context = getattr(problem, "ctx", None)
    if context is not None:
        print(f"hint: '{context.command_path} --help' shows what it takes", file=sys.stderr)
    return int(ExitCode.USAGE)


def _report(problem: QakhuntError) -> None:
    from qakhunt.core.safe_text import for_terminal

    where = f"{for_terminal(str(problem.location))}: " if problem.location else ""
    print(f"error: {where}{for_terminal(problem.message)}", file=sys.stderr)
    if problem.hint:
        print(f"hint: {for_terminal(problem.hint)}", file=sys.stderr)


def _bug() -> int:
    import traceback

    print("error: this is a bug in qakhunt; please report it with the lines below", file=sys.stderr)
    traceback.print_exc()
    return int(ExitCode.BUG)


if __name__ == "__main__":
    main()
