"""launch SCRIPT --on PLACE: bring up machines one after another until the run ends, with nobody there."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from supervisor.bootstrap import ensure
from supervisor.cli import start, targets
from supervisor.cli.calling import example_script
from supervisor.cli.options import Parser, count, duration, parser
from supervisor.core import program
from supervisor.core.errors import FAILED_PRECHECKS, UsageError, UserError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

DAY_S = 86400.0
MACHINES = (
    "colab: Google's machines, through its own command line and your account. ssh:HOST: a folder in "
    "~/.training-supervisor-machines on that host, or in the folder that is named. local: a blank folder on this computer, "
    "in ~/.local/share/training-supervisor/machines. What they make is fetched into --store here."
)
CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
PASSED_ON = (
    "save_every", "keep_last", "max_restarts", "max_preemptions", "budget", "resume", "hang_after",
)  # fmt: skip


def run(arguments: Sequence[str]) -> int:
    """Parse, and serve; or look after machines that are there."""
    own, script_arguments = start.split(arguments)
    if "-m" in own:
        hint = "give the path of its file, and have it import its package by name"
        raise UsageError("launch sends a script to the machine, and runs no module by -m", hint)
    line = _parser()
    targets.refuse_launchers(line, own, script_arguments)
    options = line.parse_args(own)
    ensure()
    from supervisor.core.provisioning import MachineError

    try:
        if options.list or options.release:
            return _look_after(options)
        return _launch(options, script_arguments)
    except MachineError as error:
        raise UserError(str(error), error.hint or "try again", FAILED_PRECHECKS) from error


def _launch(options: Namespace, script_arguments: Sequence[str]) -> int:
    if options.script is None:
        raise UsageError("the script is missing", program.command("launch", example_script(), "--on", "local"))
    script = start.script_path(options.script)
    from supervisor import launching
    from supervisor.core.fleet_state import Policy
    from supervisor.core.provisioning import Wanted
    from supervisor.core.signing import key_of_run
    from supervisor.engine import user_key
    from supervisor.engine.clock import BootClock
    from supervisor.environments import wish
    from supervisor.fleet import bundle

    own = wish.read(script, install=not options.no_install).options
    start.settings(options, own, script.name)  # what is wrong with them is said here and now
    name, store = start.named(script, options, own)
    policy = Policy(
        wanted=Wanted(options.gpu or options.tpu or "", options.high_mem),
        machines_max=count(options.max_machines),
        a_day=count(options.max_machines_a_day),
        units_max=None if options.max_units is None else _units(options.max_units),
        until_wall_s=None if options.until is None else until(options.until, BootClock().now().wall_s),
    )
    key = user_key.read_or_make(os.environ)
    shipment = bundle.Shipment(
        name,
        script,
        tuple(script_arguments),
        tuple(_passed_on(options)),
        bundle.secrets(options.secret, os.environ),
        key_of_run(key, name) if key else "",
    )
    environ = dict(os.environ)
    launch = launching.Launch(
        options.on,
        store or launching.DEFAULT_STORE,
        shipment,
        policy,
        json_lines=options.json,
        environ=environ,
        same_run=options.same_run,
    )
    return launching.serve(launch)


def until(text: str, now_wall_s: float) -> float:
    """Return the moment of "07:30" (the next such time here) or "in so long" ("9h") as a wall stamp, or raise UsageError."""
    if (match := CLOCK.fullmatch(text)) is None:
        return now_wall_s + duration(text)
    import time

    today = time.localtime(now_wall_s)
    at = time.mktime((today.tm_year, today.tm_mon, today.tm_mday, int(match[1]), int(match[2]), 0, 0, 0, -1))
    return at if at > now_wall_s else at + DAY_S


def _look_after(options: Namespace) -> int:
    """List the account's machines, or give one back that is not known to be ours: a person says that it is."""
    from supervisor import launching
    from supervisor.fleet import lately
    from supervisor.views.wrapping import show

    found = launching.find_provisioner(options.on, lately.state_root(os.environ), dict(os.environ))
    listed = found.machines()
    if options.list:
        for each in listed:
            show(f"{each.endpoint}  {each.hardware or '-'}  {each.name or 'not known to be ours'}")
            if each.name:
                show(f"  give it back: {program.command('launch', '--on', options.on, '--release', each.endpoint)}")
        if not listed:
            show(f"no machines on {found.traits.place}")
        return 0
    machine = next((each for each in listed if each.endpoint == options.release), None)
    if machine is None:
        show(f"{options.release} is not listed: there is nothing to give back")
        return 0
    found.release(machine)
    show(f"{options.release} is given back")
    return 0


def _passed_on(options: Namespace) -> list[str]:
    words: list[str] = []
    for name in PASSED_ON:
        given = getattr(options, name)
        words += [] if given is None else [f"--{name.replace('_', '-')}", str(given)]
    words += ["--same-run"] if options.same_run else []
    return [*words, "--no-install"] if options.no_install else words


def _units(text: str) -> float:
    try:
        units = float(text)
    except ValueError:
        units = 0.0
    if not units > 0:
        raise UsageError(f"--max-units: {text!r} is not a number above 0", "write it like 20 or 12.5")
    return units


def _parser() -> Parser:
    made = parser(
        "launch", "Bring up machines one after another until the run of SCRIPT ends; the same command goes on with it."
    )
    made.usage = "%(prog)s SCRIPT --on PLACE [options] [-- ARGUMENTS OF THE SCRIPT]"
    made.add_argument("script", metavar="SCRIPT", nargs="?")
    machines = made.add_argument_group("machines", MACHINES)
    machines.add_argument("--on", metavar="PLACE", required=True, help="colab, ssh:HOST, ssh:HOST:/folder or local")
    hardware = machines.add_mutually_exclusive_group()
    hardware.add_argument("--gpu", metavar="KIND", help="T4, L4, A100, H100 (Colab)")
    hardware.add_argument("--tpu", metavar="KIND", help="v5e1, v6e1 (Colab)")
    machines.add_argument("--high-mem", action="store_true", help="a machine with more memory (Colab)")
    machines.add_argument("--max-machines", metavar="N", default="24", help="machines of this launch (default: 24)")
    machines.add_argument("--max-machines-a-day", metavar="N", default="12", help="within 24 hours (default: 12)")
    machines.add_argument("--max-units", metavar="U", help="compute units of this launch")
    machines.add_argument(
        "--until", metavar="WHEN", help="07:30, or 9h from now: then save, fetch, give the machine back"
    )
    machines.add_argument(
        "--secret", metavar="NAME", action="append", default=[], help="send this variable to the script; repeatable"
    )
    machines.add_argument("--list", action="store_true", help="show the account's machines")
    machines.add_argument("--release", metavar="ENDPOINT", help="give one machine back")
    start.add_options(made)
    return made
