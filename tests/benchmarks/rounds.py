"""Timing side by side: each contender lives in a process of its own, and they take turns.

In one process the thread pools of two libraries disturb each other (each waits in a busy loop for its next work), so
the contenders get a process each and run alternately, several rounds; one that does not run sleeps. A round keeps
calling for a while before it measures, because processors and thread pools need some milliseconds to wake. A round's
number is its median; the best round is reported (others work on a shared machine too), and ratios only within a run.
"""
from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

WARM_UP, CALLS = 0.1, 7  # seconds before a round measures, and calls that it measures
ENOUGH = 0.5  # seconds after which a round measures no further call
NOT_A_USERS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
               "MINICV_THREADS", "MINICV_PLAIN", "MINICV_BACKEND")  # settings that would not be a user's


def user_environment() -> dict[str, str]:
    """Return the environment without what tunes a library."""
    return {key: value for key, value in os.environ.items() if key not in NOT_A_USERS}


class Contender:
    """A child process that runs ``python -m MODULE ARGUMENT`` and serves ``serve`` below."""

    def __init__(self, module: str, argument: str, environment: dict[str, str | None] | None = None):
        env = {**user_environment(), "MINICV_BENCHMARK": "1"}
        for key, value in (environment or {}).items():
            env.pop(key, None)
            if value is not None:
                env[key] = value
        self.process = subprocess.Popen([sys.executable, "-m", module, argument], env=env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, request: dict) -> dict:
        """Send one request; wait for its answer."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the contender {self.process.args} ended with code {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve(make: Callable[[dict], tuple[dict[str, Callable[[], object]], dict]], about: Callable[[], dict]) -> None:
    """Answer requests on standard input: {"about"}, {"case"} to set one up, {"run": name} to time one of its calls.

    ``make`` returns the calls by name, and facts about the case that the parent can compare.
    """
    calls: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "about" in request:
            answer = about()
        elif "case" in request:
            calls, facts = make(request["case"])
            answer = {"calls": list(calls), "facts": facts}
        else:
            answer = {"ms": measure(calls[request["run"]])}
        print(json.dumps(answer), flush=True)


def measure(call: Callable[[], object]) -> list[float]:
    """Milliseconds of up to CALLS calls, after WARM_UP seconds of calling; fewer of slow calls, at least one."""
    start = time.perf_counter()
    while True:
        call()
        if time.perf_counter() - start > WARM_UP:
            break
    times: list[float] = []
    while len(times) < CALLS and sum(times) < 1e3 * ENOUGH:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def resident(field: str) -> float:
    """VmRSS (now) or VmHWM (the most since the last reset) of this process, MB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def reset_peak() -> None:
    """Let VmHWM start again from the present resident set."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def compare(contenders: dict[str, Contender], case: dict, rounds: int = 3,
            facts: dict[str, dict] | None = None) -> dict[str, dict[str, float]]:
    """{contender: {call: ms}} of one case; a contender that cannot do a call leaves it out.

    ``facts`` is filled with what the contenders found out while they set the case up.
    """
    ready = {name: c.ask({"case": case}) for name, c in contenders.items()}
    calls = {name: answer["calls"] for name, answer in ready.items()}
    if facts is not None:
        facts |= {name: answer["facts"] for name, answer in ready.items()}
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for call in dict.fromkeys(call for some in calls.values() for call in some):
            for name, contender in contenders.items():
                if call in calls[name]:
                    median = statistics.median(contender.ask({"run": call})["ms"])
                    times.setdefault((name, call), []).append(median)
    result: dict[str, dict[str, float]] = {}
    for (name, call), values in times.items():
        result.setdefault(name, {})[call] = min(values)
    return result
