"""The command line as a user meets it, within the process of the test."""

from omnifuse.main import main


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `omnifuse ARGUMENTS`."""
    try:
        main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return code, out, err
