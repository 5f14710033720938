"""Runs a command and watches its memory through /proc (Linux)."""
import os
import pathlib
import subprocess
import time


def run(command, cgroup=None, every=0.05):
    """Runs `command` to its end; returns seconds, largest resident and largest anonymous memory in bytes.

    `cgroup`: a folder of a cgroup in which the process starts. Memory is read every `every` seconds, so that a peak shorter
    than that may be missed in `RssAnon`; `VmHWM` is a peak the kernel keeps (not `ru_maxrss`, which begins with the parent's).
    """
    def enter():
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    peak = {"VmHWM": 0, "RssAnon": 0}
    start = time.perf_counter()
    child = subprocess.Popen([str(word) for word in command], preexec_fn=enter if cgroup else None)
    while child.poll() is None:
        try:
            lines = pathlib.Path(f"/proc/{child.pid}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            lines = []
        for line in lines:
            name, _, rest = line.partition(":")
            if name in peak:
                peak[name] = max(peak[name], int(rest.split()[0]) * 1024)
        try:
            child.wait(every)
        except subprocess.TimeoutExpired:
            pass
    seconds = time.perf_counter() - start
    if child.returncode:
        raise SystemExit(f"error: exit code {child.returncode} from: {' '.join(map(str, command))}")
    return {"seconds": seconds, "resident": peak["VmHWM"], "anonymous": peak["RssAnon"]}


def markdown(head, rows):
    """A markdown table of texts."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
