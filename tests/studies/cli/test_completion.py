"""Completion: what a shell is offered, how fast, and that real shells take it."""

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import ablations
from lightning_modules.catalogue import NETWORKS
from studies.cli.app import main
from studies.cli.authoring.completion import split_line

ROOT = Path(__file__).parents[3]
SCHEDULES = ("constant", "cosine", "plateau")
HEAVY = ("torch", "numpy", "ray", "mlflow", "optuna", "pandas", "matplotlib", "scipy", "rich")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offers(line, shell="zsh", kind="plain", **environment):
    """The words that a shell is offered for a command line, which ends at the cursor."""
    variables = {"ABLATE_LINE": line, "_ABLATE_COMPLETE": f"{shell}_complete", **environment}
    shown = CliRunner().invoke(main, prog_name="ablate", env=variables)
    rows = [row.split("\t") for row in shown.stdout.splitlines()]
    return [row[1] for row in rows if row[0] == kind]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ablate calib", ["calibrate"]),
        ("ablate run dep", ["depth", "depth_beyond"]),
        ("ablate run depth --protocol cifar10", ["cifar10", "cifar10-cpu"]),
        ("ablate run depth --protocol=im", ["--protocol=imagenet"]),
        ("ablate run depth --set recipe.mo", ["recipe.momentum="]),
        ("ablate run depth --set network.st", ["network.stem="]),  # its stages are what it varies
        ("ablate run depth --set redraw", []),  # a placebo sets it
        (
            "ablate run depth --set recipe.schedule=",
            [f"recipe.schedule={name}" for name in SCHEDULES],
        ),
        ("ablate run depth --set recipe.epochs=", ["recipe.epochs=50"]),
        ("ablate run depth --protocol cifar10 --set scale.chan", ["scale.channels="]),
        ("ablate calibrate dropout --arm no", ["no dropout"]),
        ("ablate profile vgg-b", ["vgg-b", "vgg-b-5x5"]),
        ("ablate profile depth/", ["depth/A", "depth/B", "depth/D", "depth/E"]),
        ("ablate new x --networks vgg-a,vgg-c", ["vgg-a,vgg-c"]),
        ("ablate new x --setting recipe.mom", ["recipe.momentum="]),
        ("ablate run depth --reuse m", ["matching"]),
        ("ablate run depth --protocol no-such", []),
    ],
)
def test_words_are_completed(line, words):
    assert offers(line) == words


def test_every_ablation_and_every_network_is_offered():
    assert offers("ablate show ") == list(ablations.names())
    assert offers("ablate evaluate ")[: len(NETWORKS)] == list(NETWORKS)


def test_a_path_is_left_to_the_shell():
    assert offers("ablate run ./my", kind="file") == ["./my"]
    assert offers("ablate gate results", kind="file") == ["results"]


def test_studies_of_the_runs_folder_are_offered(own_folder):
    (own_folder / "elsewhere" / "studies" / "my_study-0a1b2c3d").mkdir(parents=True)
    assert offers("ablate status my") == []
    assert offers("ablate status my", ABLATE_RUNS="elsewhere") == ["my_study"]
    assert offers("ablate report --runs elsewhere my") == ["my_study"]


def test_bash_is_given_what_it_replaces():
    assert offers("ablate run depth --set recipe.schedule=c", "bash", ABLATE_BREAKS=" =:") == ["constant", "cosine"]
    assert offers("ablate run depth --protocol=im", "bash", ABLATE_BREAKS=" =:") == ["imagenet"]
    assert offers("ablate run depth --protocol=im", "bash", ABLATE_BREAKS=" ") == ["--protocol=imagenet"]


@pytest.mark.parametrize(
    ("line", "words", "last"),
    [
        ("ablate run ", ["ablate", "run"], ""),
        ("ablate ru", ["ablate"], "ru"),
        ("ablate run 'my stu", ["ablate", "run"], "my stu"),
        ('ablate run "a b" c', ["ablate", "run", "a b"], "c"),
        ("", [], ""),
    ],
)
def test_a_line_is_split_at_the_cursor(line, words, last):
    assert split_line(line) == (words, last)


def test_completing_loads_no_framework():
    code = f"""
import os, sys
from studies.cli.app import main
try:
    main(prog_name="ablate")
except SystemExit:
    pass
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ABLATE_LINE": "ablate run depth --set recipe.",
        "_ABLATE_COMPLETE": "bash_complete",
    }
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert "recipe.epochs=" in ended.stdout
    assert ended.stderr.strip() == "[]"


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(ablate completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -U compinit; compinit -u; eval "$(ablate completion zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "ablate completion fish | source"),
}


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_completes(shell, own_folder):
    arguments, setup = SHELLS[shell]
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    program = own_folder / "bin" / "ablate"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from studies.cli.app import run_program\nrun_program()\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    process, terminal = pty.fork()
    if process == 0:
        environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "TERM": "xterm", "HOME": "."}
        os.execvpe(arguments[0], arguments, environment)
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        read_terminal(terminal, until="never", seconds=1)
        os.write(terminal, f"{setup}; echo re''ady\n".encode())
        assert "ready" in read_terminal(terminal, until="ready")
        for typed, completed in (
            ("ablate run degradation_1", "ablate run degradation_110 "),
            ("ablate run depth --set recipe.schedule=pl", "recipe.schedule=plateau "),
            ("ablate run depth --protocol=im", "--protocol=imagenet "),
        ):
            os.write(terminal, f"{typed}\t".encode())
            assert completed in read_terminal(terminal, until=completed)
            os.write(terminal, b"\x15")  # clears the line
            read_terminal(terminal, until="never", seconds=0.5)
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(terminal)


def read_terminal(terminal, until, seconds=30.0):
    """Read what a terminal shows, without its control sequences, up to a text."""
    shown, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        ready, _, _ = select.select([terminal], [], [], 0.1)
        if ready:
            shown += os.read(terminal, 65536)
            if shown.endswith((b"\x1b[c", b"\x1b[0c")):
                os.write(terminal, b"\x1b[?62;c")  # fish asks what the terminal is
        text = re.sub(rb"\x1b\[[0-9;?<>=]*[a-zA-Z]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[()=>][0-9A-Z]?", b"", shown)
        if until.encode() in text:
            return text.decode(errors="replace")
    return shown.decode(errors="replace")
