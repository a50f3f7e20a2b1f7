"""Looking for solc: every route, with programs that only pretend."""

from __future__ import annotations

import logging
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ml2sc.errors import ToolchainError
from ml2sc.runtime.compiler_cache import CompilerCache
from ml2sc.runtime.toolchain import Toolchain

INPUT = {"language": "Solidity", "sources": {"T.sol": {"content": "contract T {}"}}}

FAKE_SOLC = """
import json, sys
if "--version" in sys.argv:
    print("solc, the solidity compiler commandline interface\\nVersion: {version}")
else:
    assert "--standard-json" in sys.argv
    print(json.dumps({{"sources": list(json.load(sys.stdin)["sources"])}}))
"""

FAKE_NODE = """
import json, os, sys
from pathlib import Path
assert Path(sys.argv[1]).name == "solc_node.js" and Path(sys.argv[1]).is_file()
version = json.loads((Path(os.environ["ML2SC_SOLC_NPM"]) / "package.json").read_text())["version"]
if "--version" in sys.argv:
    print(f"Version: {version}+commit.1.Emscripten")
else:
    while length := sys.stdin.buffer.readline():
        json.loads(sys.stdin.buffer.read(int(length)))
        answer = json.dumps({"npm": version})
        print(f"{len(answer)}\\n{answer}", end="", flush=True)
"""

FAKE_NPM = """
import sys
from pathlib import Path
if sys.argv[1] == "root":
    print(Path.cwd() / "global")
else:
    package = Path(sys.argv[sys.argv.index("--prefix") + 1]) / "node_modules" / "solc"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"version": "%s"}' % sys.argv[-1].removeprefix("solc@"))
    (package / "soljson.js").write_text(sys.argv[-1])
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """A machine with nothing on it and no network; returns a function that puts a program on its PATH."""
    path = tmp_path / "bin"
    path.mkdir()
    for name in ("ML2SC_SOLC", "ML2SC_SOLC_NPM", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "solcx").mkdir()
    monkeypatch.setenv("SOLCX_BINARY_PATH", str(tmp_path / "solcx"))
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)

    def put(name: str, source: str) -> Path:
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!{sys.executable}\n{source}")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return file

    return put


Put = Callable[[str, str], Path]


def package(folder: Path, version: str) -> None:
    """Put an npm package `solc` into a node_modules folder."""
    (folder / "solc").mkdir(parents=True)
    (folder / "solc" / "package.json").write_text(f'{{"version": "{version}"}}')
    (folder / "solc" / "soljson.js").write_text(version)


def test_path_given(program: Put, tmp_path: Path) -> None:
    program("solc", FAKE_SOLC.format(version="0.8.30+commit.on-path"))
    given = program("../mine/compiler", FAKE_SOLC.format(version="0.8.26+commit.mine"))
    run = Toolchain(str(given)).solc(INPUT)
    assert run == ({"sources": ["T.sol"]}, "solc 0.8.26+commit.mine", "given path")


def test_path_given_by_environment(program: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML2SC_SOLC", str(program("mysolc", FAKE_SOLC.format(version="0.8.26+commit.mine"))))
    assert Toolchain().solc(INPUT).how == "given path"


def test_wrong_path_given_is_no_invitation_to_use_another(program: Put, tmp_path: Path) -> None:
    program("solc", FAKE_SOLC.format(version="0.8.30+commit.on-path"))
    with pytest.raises(ToolchainError, match=r"the solc given cannot be used: no executable .*nowhere"):
        Toolchain(str(tmp_path / "nowhere")).solc(INPUT)


def test_given_solc_too_old(program: Put) -> None:
    given = program("old", FAKE_SOLC.format(version="0.8.23+commit.old"))
    with pytest.raises(ToolchainError, match=r"0\.8\.23\+commit\.old, too old") as caught:
        Toolchain(str(given)).solc(INPUT)
    assert "0.8.24 or later" in str(caught.value)


def test_solc_on_path(program: Put, caplog: pytest.LogCaptureFixture) -> None:
    file = program("solc", FAKE_SOLC.format(version="0.8.24+commit.e11b9ed9.Linux.g++"))
    with caplog.at_level(logging.INFO, "ml2sc"):
        run = Toolchain().solc(INPUT)
    assert (run.compiler, run.how) == ("solc 0.8.24+commit.e11b9ed9.Linux.g++", "PATH")
    assert f"using solc 0.8.24+commit.e11b9ed9.Linux.g++ (PATH: {file})" in caplog.messages


def test_it_is_looked_for_once(program: Put, caplog: pytest.LogCaptureFixture) -> None:
    program("solc", FAKE_SOLC.format(version="0.8.30+commit.1"))
    toolchain = Toolchain()
    with caplog.at_level(logging.INFO, "ml2sc"):
        toolchain.solc(INPUT)
        toolchain.solc(INPUT)
    assert len(caplog.messages) == 1


def test_newest_of_py_solc_x(program: Put) -> None:
    for version in ("0.8.9", "0.8.26", "0.8.30"):
        program(f"../solcx/solc-v{version}", FAKE_SOLC.format(version=f"{version}+commit.x"))
    run = Toolchain().solc(INPUT)
    assert (run.compiler, run.how) == ("solc 0.8.30+commit.x", "py-solc-x")


def test_too_old_on_path_falls_through_to_npm(program: Put, tmp_path: Path) -> None:
    program("solc", FAKE_SOLC.format(version="0.8.19+commit.old"))
    program("node", FAKE_NODE)
    package(tmp_path / "node_modules", "0.8.29")
    run = Toolchain().solc(INPUT)
    assert run == ({"npm": "0.8.29"}, "solc 0.8.29+commit.1.Emscripten", "npm")


@pytest.mark.parametrize("given", ["elsewhere", "elsewhere/node_modules", "elsewhere/node_modules/solc"])
def test_npm_package_by_environment(program: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    program("node", FAKE_NODE)
    package(tmp_path / "node_modules", "0.8.29")
    package(tmp_path / "elsewhere" / "node_modules", "0.8.30")
    monkeypatch.setenv("ML2SC_SOLC_NPM", str(tmp_path / given))
    assert Toolchain().solc(INPUT).output == {"npm": "0.8.30"}


def test_npm_package_is_asked_its_version_once(program: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even npm or Node is started where all answers are in the cache; another package is another compiler."""
    monkeypatch.setenv("ML2SC_CACHE", str(tmp_path / "answers"))
    program("node", FAKE_NODE)
    package(tmp_path / "node_modules", "0.8.29")
    compiler = tmp_path / "node_modules" / "solc" / "soljson.js"
    compiler.write_text("one")
    first = Toolchain().solc(INPUT)
    for name in ("node", "npm"):
        program(name, "raise SystemExit('it was started')")
    assert Toolchain().solc(INPUT) == first
    compiler.write_text("another")
    with pytest.raises(ToolchainError, match="it was started"):
        Toolchain(downloads=False).solc(INPUT)


def test_npm_package_in_the_global_folder(program: Put, tmp_path: Path) -> None:
    program("node", FAKE_NODE)
    program("npm", FAKE_NPM)
    package(tmp_path / "global", "0.8.31")
    assert Toolchain().solc(INPUT).output == {"npm": "0.8.31"}


def test_npm_installs_it_once(program: Put, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    program("node", FAKE_NODE)
    program("npm", FAKE_NPM)
    with caplog.at_level(logging.INFO, "ml2sc"):
        first = Toolchain().solc(INPUT)
        said = list(caplog.messages)
        caplog.clear()
        second = Toolchain().solc(INPUT)
    assert first == second
    assert first.how == "npm"
    cache = tmp_path / "cache" / "ml2sc" / "npm"
    assert any(line.startswith("installing the npm package solc@") and line.endswith(str(cache)) for line in said)
    assert not any("installing" in line for line in caplog.messages)


def test_nothing_found_lists_what_was_tried_and_what_to_install(program: Put) -> None:
    program("solc", FAKE_SOLC.format(version="0.8.19+commit.old"))
    with pytest.raises(ToolchainError) as caught:
        Toolchain().solc(INPUT)
    text = str(caught.value)
    for line in (
        "no usable solc found",
        "0.8.19+commit.old, too old",
        "py-solc-x: no version installed",
        "npm package: no executable node",
        "py-solc-x download: ",
        "npm install: no executable node",
        "npm install -g solc",
        "--solc PATH",
    ):
        assert line in text
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("print('Version: 0.8.30') if '--version' in sys.argv else print('Killed')", "answered no JSON: 'Killed"),
        ("print('Version: 0.8.30') if '--version' in sys.argv else sys.exit('no memory')", "ended with 1: no memory"),
        ("print('hello')", "says no version: 'hello"),
        ("sys.exit(9)", "ended with 9: no message"),
    ],
)
def test_broken_solc(program: Put, source: str, message: str) -> None:
    given = program("broken", f"import sys\n{source}")
    with pytest.raises(ToolchainError) as caught:
        Toolchain(str(given)).solc(INPUT)
    assert message in str(caught.value)


def test_large_input(program: Put) -> None:
    given = program("solc", FAKE_SOLC.format(version="0.8.30+commit.1"))
    source = {"sources": {"T.sol": {"content": "x" * 8_000_000}}}
    assert Toolchain(str(given)).solc(source).output == {"sources": ["T.sol"]}


COUNTING_SOLC = """
import json, sys
from pathlib import Path
if "--version" in sys.argv:
    print("Version: 0.8.30+commit.1")
else:
    with Path("asked").open("a") as file:
        file.write("x")
    print(json.dumps({"sources": list(json.load(sys.stdin)["sources"])}))
"""


def test_what_was_compiled_before_is_in_the_cache(
    program: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML2SC_CACHE", str(tmp_path / "cache"))
    file, asked = program("solc", COUNTING_SOLC), tmp_path / "asked"
    first = Toolchain().solc(INPUT)
    assert Toolchain().solc(INPUT) == first
    assert asked.read_text() == "x"
    Toolchain(cache=CompilerCache(None)).solc(INPUT)
    monkeypatch.setenv("ML2SC_CACHE", "off")
    Toolchain().solc(INPUT)
    assert asked.read_text() == "xxx"
    monkeypatch.setenv("ML2SC_CACHE", str(tmp_path / "cache"))
    file.write_text(file.read_text() + "# another build that says the same version\n")
    Toolchain().solc(INPUT)
    Toolchain().solc({**INPUT, "settings": {}})
    assert asked.read_text() == "xxxxx"


NPM_SAYS = {
    "SELF_SIGNED_CERT_IN_CHAIN: request to https://registry.example/solc failed": (
        (
            "npm ERR! code SELF_SIGNED_CERT_IN_CHAIN\nnpm ERR! errno SELF_SIGNED_CERT_IN_CHAIN\n"
            "npm ERR! request to https://registry.example/solc failed, reason: self-signed certificate\n\n"
            "npm ERR! A complete log of this run can be found in:\nnpm ERR!     /root/.npm/_logs/2026-debug-0.log\n"
        ),
        "NODE_EXTRA_CA_CERTS=FILE.pem",
    ),
    "UNABLE_TO_GET_ISSUER_CERT_LOCALLY: request to": (
        (
            "npm error code UNABLE_TO_GET_ISSUER_CERT_LOCALLY\nnpm error request to https://registry.example failed\n"
            "npm error A complete log of this run can be found in: /root/.npm/_logs/2026-debug-0.log\n"
        ),
        "NODE_EXTRA_CA_CERTS=FILE.pem",
    ),
    "ENOTFOUND: request to": (
        (
            "npm error code ENOTFOUND\nnpm error syscall getaddrinfo\nnpm error errno ENOTFOUND\n"
            "npm error request to https://r.example failed\nnpm error A complete log of this run is in: x\n"
        ),
        "set HTTPS_PROXY",
    ),
    "EACCES: permission denied": (
        "npm error code EACCES\nnpm error path /usr/lib\nnpm error permission denied\n",
        "cannot be written",
    ),
    "CERTIFICATE_VERIFY_FAILED": ("Traceback\n  requests.SSLError: CERTIFICATE_VERIFY_FAILED\n", "REQUESTS_CA_BUNDLE"),
    "something new": ("npm error something new\n", ""),
}


@pytest.mark.parametrize("cause", NPM_SAYS)
def test_why_npm_failed(program: Put, cause: str) -> None:
    """The cause is told, not where npm's log is, and what to do about the usual ones."""
    said, cure = NPM_SAYS[cause]
    program("node", FAKE_NODE)
    program("npm", f"import sys\nif sys.argv[1] == 'root':\n    print('nowhere')\nelse:\n    sys.exit({said!r})\n")
    with pytest.raises(ToolchainError) as caught:
        Toolchain().solc(INPUT)
    (line,) = (line for line in str(caught.value).splitlines() if "npm install:" in line)
    assert cause in line
    assert cure in line
    assert "_logs" not in line
    assert "log of this run" not in line


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_compiler_ends_with_us(program: Put, tmp_path: Path, how: signal.Signals) -> None:
    """A killed compilation leaves no solc behind that computes for minutes more."""
    slow = f"""
import os, sys, time
from pathlib import Path
if "--version" in sys.argv:
    print("Version: 0.8.30+commit.1")
else:
    Path({str(tmp_path / "child")!r}).write_text(str(os.getpid()))
    time.sleep(60)
"""
    solc = program("solc", slow)
    code = f"from ml2sc.runtime.toolchain import Toolchain; Toolchain({str(solc)!r}).solc({INPUT!r})"
    parent = subprocess.Popen([sys.executable, "-c", code])
    child = int(awaited(lambda: (tmp_path / "child").read_text() if (tmp_path / "child").exists() else ""))
    parent.send_signal(how)
    parent.wait(30)
    awaited(lambda: not alive(child))


def awaited(condition: Callable[[], Any]) -> Any:
    """Return what a condition gives as soon as that is not empty."""
    for _ in range(600):
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come about within 30 s")


def alive(pid: int) -> bool:
    """Return whether a process runs: one that only waits to be reaped does not."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
