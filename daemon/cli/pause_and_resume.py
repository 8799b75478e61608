"""``bringup pause`` and ``bringup resume``: no further start of a guest for a while."""

import argparse
import os

from bringup.daemon.cli.options import add_json_to, add_settings_to, settings_of, write_json, write_line

NOTICED = "a running daemon notices it within a second; bringup status shows how many wait"


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both commands."""
    pause = commands.add_parser(
        "pause",
        help="start no further guest for a while",
        description="Pause all starts: no further guest is started, by the running daemon or by one that starts later; "
        "starts that are under way end, and what starts no guest continues. The pause ends by itself.",
    )
    add_settings_to(pause, placement=False)
    add_json_to(pause)
    pause.add_argument(
        "--for", dest="span", metavar="SPAN", help="how long, such as 10min or 2h (default: 30min; at most a week)"
    )
    pause.set_defaults(execute=_execute_pause)
    resume = commands.add_parser(
        "resume",
        help="end a pause of starts",
        description="End a pause of starts: the running daemon starts within a second what waited for its end.",
    )
    add_settings_to(resume, placement=False)
    add_json_to(resume)
    resume.set_defaults(execute=_execute_resume)


def _execute_pause(arguments: argparse.Namespace) -> int:
    import anyio

    from bringup.daemon.recovery.pause import shown_times
    from bringup.daemon.service.assembly import JOURNAL
    from bringup.daemon.service.journal_requests import pause, time_span
    from bringup.daemon.time_spans import in_words

    for_s = time_span() if arguments.span is None else time_span(arguments.span)
    paused = anyio.run(pause, settings_of(arguments).host.state_directory / JOURNAL, for_s)
    if arguments.json:
        write_json({"paused": shown_times(paused)})
        return os.EX_OK
    _, until = shown_times(paused)
    write_line(f"starts are paused for {in_words(for_s)}, until {until}; bringup resume ends the pause")
    write_line(NOTICED)
    return os.EX_OK


def _execute_resume(arguments: argparse.Namespace) -> int:
    import anyio

    from bringup.daemon.recovery.pause import shown_times
    from bringup.daemon.service.assembly import JOURNAL
    from bringup.daemon.service.journal_requests import resume

    paused = anyio.run(resume, settings_of(arguments).host.state_directory / JOURNAL)
    if arguments.json:
        write_json({"resumed": shown_times(paused)})
        return os.EX_OK
    write_line("starts are not paused" if paused is None else "the pause of starts is over")
    return os.EX_OK
