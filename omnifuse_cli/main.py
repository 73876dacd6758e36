"""The root command. Subcommands are imported when they are called, so that `omnifuse --help` costs little more than Python itself."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback

import click

from omnifuse import __version__
from omnifuse.preprocess.schema import OmnifuseError, ResourceError, nearest

# In the order in which a person meets them. The text stands here, not in the module, so that help imports none of them.
COMMANDS = {
    "init": "Make a workspace: a folder with omnifuse.yaml and a place for each artefact.",
    "demo": "Write the synthetic clinic's raw tables, or run the whole chain on it.",
    "preprocess": "Raw files to a cohort: stays, labels, series, folds.",
    "extract": "A cohort to features: what training maps into memory.",
    "train": "Train one method on one task, a run a fold.",
    "tune": "Search a method's settings on the val part alone, with an equal budget for every method.",
    "eval": "Numbers with intervals from the runs' predictions.",
    "report": "One self-contained HTML page from an evaluation.",
    "export": "Arrays, series or listfiles for other tools.",
    "list": "What there is: methods, encoders, tasks, cohorts, runs.",
    "config": "Show the resolved configuration and where each value comes from.",
    "doctor": "Check the installation and the workspace; each failed check names its fix.",
}


class LazyGroup(click.Group):
    """Names and one-line helps come from COMMANDS; the module behind a name is imported on use."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"omnifuse.commands.{name}").command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, context: click.Context, args: list[str]):
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(f"no command {args[0]!r} ({nearest(args[0], COMMANDS)})")
        return super().resolve_command(context, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="omnifuse")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (it may hold values of your data).")
@click.pass_context
def root(context: click.Context, debug: bool) -> None:
    """From raw clinical files to honest numbers about multimodal models.

    \b
    raw files --preprocess--> cohort --extract--> features --train--> run --eval--> report

    \b
    Example:
      omnifuse demo --run my-first          the whole chain on the synthetic clinic
      omnifuse init study --ehr /data/mimiciv/3.1 && cd study
      omnifuse preprocess mimic && omnifuse extract && omnifuse train --task mortality && omnifuse eval
    """
    context.obj = {"debug": debug}
    import logging

    logging.basicConfig(format="omnifuse: %(message)s", level=logging.ERROR)
    logging.getLogger("omnifuse").setLevel(logging.WARNING)


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and leaves with the exit code that the error asks for (docs/cli.md lists them)."""
    os.umask(0o077)
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        root.main(args=arguments, prog_name="omnifuse", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        _leave(f"{error.format_message()}{_usage_hint(error)}", 2)
    except (KeyboardInterrupt, click.Abort):
        _leave("interrupted; the same command goes on from what is finished", 130)
    except OmnifuseError as error:
        if debug:
            traceback.print_exc()
        _leave(str(error), error.exit_code)
    except MemoryError:
        _leave("out of memory (a smaller --set train.batch_size or a machine with more memory)", 5)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if debug or error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EMFILE, errno.EIO}:
            _leave_with_bug(error, debug)
        what = os.strerror(error.errno)
        _leave(str(ResourceError(what, where=error.filename, hint="free it, or choose another place with --out")), 5)
    except Exception as error:
        _leave_with_bug(error, debug)


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path} --help)" if context is not None else ""


def _leave(line: str, code: int) -> None:
    print(f"omnifuse: error: {' '.join(line.split())}", file=sys.stderr)
    sys.exit(code)


def _leave_with_bug(error: Exception, debug: bool) -> None:
    """Where it happened, without the exception's text: libraries put cell contents there."""
    if debug:
        traceback.print_exception(error)
    else:
        for frame in traceback.extract_tb(error.__traceback__)[-6:]:
            print(f"  {frame.filename}:{frame.lineno} in {frame.name}", file=sys.stderr)
    _leave(f"{type(error).__name__}: a bug of omnifuse (please report the lines above; --debug shows more, and may show data)", 1)
