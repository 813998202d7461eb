"""Running a tool: its output goes to a log, its time and memory are measured, its failure becomes one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnnapps.errors import ExportError

Tick = Callable[[float], None]
"""Called with the seconds that a tool has been running."""

_INTERVAL = 0.1
_QUOTED = 3


@dataclass(frozen=True)
class Usage:
    """What a tool took.

    Attributes:
        seconds: on the clock.
        megabytes: the most memory that it, or a program that it started, held.

    """

    seconds: float
    megabytes: float


def run_tool(
    name: str,
    command: Sequence[str],
    folder: Path,
    log: str,
    tick: Tick | None = None,
    environment: dict[str, str] | None = None,
) -> Usage:
    """Run a command in a folder.

    Args:
        name: of the tool, for errors.
        command: its program and arguments.
        folder: where it runs.
        log: the file in the folder that gets what it prints.
        tick: called about ten times a second.
        environment: variables to set beside those of this process.

    Raises:
        ExportError: it cannot be started, fails or is killed; the last lines of its log are in the message.

    """
    begun = time.monotonic()
    variables = None if environment is None else os.environ | environment
    with (folder / log).open("wb") as out:
        try:
            child = subprocess.Popen(
                list(command), cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=variables
            )
        except OSError as problem:
            raise ExportError(f"{name} cannot be started: {command[0]}: {problem.strerror}") from None
        try:
            status, used = _wait(child.pid, begun, tick)
        except BaseException:
            child.kill()
            os.waitpid(child.pid, 0)
            child.returncode = -signal.SIGKILL
            raise
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise ExportError(_failure(name, child.returncode, folder / log))
    return Usage(time.monotonic() - begun, used / 1024)


def _wait(pid: int, begun: float, tick: Tick | None) -> tuple[int, int]:
    """The exit status and the largest resident size in KiB.

    Linux counts what this process held when it started the tool as the tool's own largest size (getrusage(2)), so the
    high-water marks of the tool and what it started are read while they run. Elsewhere there is only that count.
    """
    most = 0
    while True:
        most = max(most, _resident(pid))
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            whole = usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)
            return status, most if most else whole
        if tick is not None:
            tick(time.monotonic() - begun)
        time.sleep(_INTERVAL)


def _resident(pid: int) -> int:
    """The largest resident size so far, in KiB, of a process and all below it; 0 where the system does not tell."""
    folder = Path("/proc") / str(pid)
    try:
        lines = (folder / "status").read_text(encoding="utf-8").splitlines()
        below = (folder / "task" / str(pid) / "children").read_text(encoding="utf-8").split()
    except OSError:  # it has ended, or this is no Linux
        return 0
    own = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
    return max([own, *(_resident(int(child)) for child in below)])


def _failure(name: str, code: int, log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    said = " | ".join((errors or lines)[-_QUOTED:])[-600:]
    if code == -signal.SIGKILL:
        reason = "was killed, most likely because the memory ran out"
    elif code < 0:
        reason = f"ended with signal {-code}"
    else:
        reason = f"failed with exit code {code}"
    return f"{name} {reason}; its log {log} ends: {said if said else 'it is empty'}"
