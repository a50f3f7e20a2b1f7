"""Finds the targets' compilers and runs them.

solc: a path given, PATH, py-solc-x, or the npm package run by Node, which is kept running between contracts. Vyper: the
Python package, in this process.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

from filelock import FileLock

from ml2sc.backends.base import CompilerRun
from ml2sc.errors import ToolchainError

from .children import die_with_parent
from .compiler_cache import Compiler, CompilerCache, user_cache
from .resident import Resident, StoppedError

logger = logging.getLogger(__name__)

MINIMUM_SOLC = (0, 8, 24)
"""Oldest solc that is used: the first that knows MCOPY."""

MINIMUM_VYPER = (0, 4, 3)
"""Oldest Vyper that is used: the first whose default EVM version is Prague."""

NPM_SOLC = "0.8.37"
"""Version of the npm package that is installed when there is nothing else."""

NPM_ANVIL = "1.7.1"
"""Version of Foundry's anvil that npm installs when there is none."""

_PROBE_SECONDS = 60.0  # `--version`, `npm root`: a cold start of Node takes a second
_DOWNLOAD_SECONDS = 60.0
_NPM_OPTIONS = ("--no-audit", "--no-fund", "--loglevel=error")
_NPM_INSTALL_SECONDS = 300.0


@dataclass(frozen=True)
class _Solc:
    """A solc that answered: how to start it, what it is, how it was found, its file; its package."""

    command: tuple[str, ...]
    version: str
    how: str
    program: Path
    package: Path | None = None

    def ask(self, question: str) -> str:
        """Return its answer to a standard JSON input.

        Raises:
            _UnavailableError: it ended without one.
        """
        if self.package is None:
            return _run([*self.command, "--standard-json"], None, question)
        try:
            return _resident(self.command, str(self.package), self.program.stat().st_mtime_ns).ask(question)
        except StoppedError as error:
            raise _UnavailableError(_ended(self.command[0], error.code, error.stderr)) from error
        except OSError as error:
            raise _UnavailableError(f"{self.package} does not start: {error.strerror}") from error


@lru_cache(1)
def _resident(command: tuple[str, ...], package: str, modified: int) -> Resident:
    """Return the one that runs a package as it is now: loading it costs more than most contracts do."""
    return Resident(command, {"ML2SC_SOLC_NPM": package})


class Toolchain:
    """Finds and runs the targets' own compilers. A compiler is looked for once, when it is first needed.

    Whatever is on the machine comes before anything that needs the network: the path given here or in `ML2SC_SOLC`
    (nothing else is tried then), solc on PATH, py-solc-x's installed versions, an npm package `solc` (`ML2SC_SOLC_NPM`,
    ./node_modules, npm's global folder, our cache); then a download by py-solc-x, then one by npm into our cache.

    What they answered before is taken from a cache.

    Args:
        solc: Path or name of the solc to use.
        cache: Their earlier answers; None: those that `ML2SC_CACHE` names, by default those in the user's cache folder.
        downloads: Whether a solc may be downloaded where there is none.
    """

    def __init__(self, solc: str | None = None, cache: CompilerCache | None = None, *, downloads: bool = True) -> None:
        self._given = solc or os.environ.get("ML2SC_SOLC")
        # who compares says itself what with
        self._level = logging.INFO if downloads else logging.DEBUG
        self._routes = _ROUTES if downloads else tuple(route for route in _ROUTES if route[0] not in _DOWNLOADS)
        self._found: _Solc | None = None
        self._cache = cache or CompilerCache.default()

    def solc(self, standard_input: Mapping[str, Any]) -> CompilerRun:
        """Run solc on a standard JSON input.

        Returns:
            Its output; `how` is one of "given path", "PATH", "py-solc-x", "npm" and holds no path of this machine.

        Raises:
            ToolchainError: there is no solc, or it could not run. Errors in the source are in `output["errors"]`.
        """
        if self._found is None:
            self._found = _find_solc(self._given, self._routes, self._cache)
            command = " ".join(self._found.command)
            logger.log(self._level, "using solc %s (%s: %s)", self._found.version, self._found.how, command)
        solc, question = self._found, json.dumps(standard_input)
        compiler = Compiler("solc", solc.version, solc.program)
        output = self._cache.answer(compiler, question, lambda: self._ask_solc(solc, question))
        return CompilerRun(output, f"solc {solc.version}", solc.how)

    def _ask_solc(self, solc: _Solc, question: str) -> Mapping[str, Any]:
        try:
            stdout = solc.ask(question)
            answer: Mapping[str, Any] = json.loads(stdout)
        except _UnavailableError as error:
            raise ToolchainError(f"solc {solc.version} failed: {error}", hint=f"it is {solc.command[-1]}") from error
        except json.JSONDecodeError as error:
            raise ToolchainError(f"solc {solc.version} answered no JSON: {stdout[:200]!r}") from error
        return answer

    def vyper(self, standard_input: Mapping[str, Any]) -> CompilerRun:
        """Run Vyper on a standard JSON input.

        Returns:
            Its output; `how` is "in process".

        Raises:
            ToolchainError: there is no Vyper, or it is too old. Errors in the source, and of the compiler itself, are
                in `output["errors"]`.
        """
        try:
            import vyper
            from vyper.cli.vyper_json import compile_json, exc_handler_to_dict
        except ImportError as error:
            raise ToolchainError(f"vyper is not installed: {error}", hint="pip install 'vyper>=0.4.3'") from error
        version = str(vyper.__version__)
        if tuple(int(n) for n in re.findall(r"\d+", version)[:3]) < MINIMUM_VYPER:
            needed = ".".join(map(str, MINIMUM_VYPER))
            raise ToolchainError(f"vyper {version} is too old", hint=f"{needed} or later is needed")
        version = str(getattr(vyper, "__long_version__", version))

        def ask() -> Mapping[str, Any]:
            with warnings.catch_warnings():  # it changes the filters of the whole process
                answer = compile_json(dict(standard_input), exc_handler=exc_handler_to_dict)
            plain: Mapping[str, Any] = json.loads(json.dumps(answer, default=str))  # it leaves paths in its errors
            return plain

        output = self._cache.answer(Compiler("vyper", version), json.dumps(standard_input), ask)
        return CompilerRun(output, f"vyper {version}", "in process")


class _UnavailableError(Exception):
    """A way to solc that does not work, with the reason."""


def _find_solc(given: str | None, routes: _Routes, cache: CompilerCache) -> _Solc:
    if given is not None:
        # Who names a compiler wants that one: a silent substitute would compile something else.
        try:
            return _binary(given, "given path")
        except _UnavailableError as error:
            raise ToolchainError(f"the solc given cannot be used: {error}", hint=_VERSION_HINT) from error
    tried: list[str] = []
    for name, candidates in routes:
        try:
            for make in candidates(cache):
                try:
                    return make()
                except _UnavailableError as error:
                    tried.append(f"{name}: {error}")
        except _UnavailableError as error:
            tried.append(f"{name}: {error}")
    raise ToolchainError(
        "no usable solc found\n" + "\n".join(f"  tried {line}" for line in tried),
        hint="install one with 'npm install -g solc' or 'pip install py-solc-x && python -m solcx.install latest', "
        f"or name one with --solc PATH; {_VERSION_HINT}",
    )


_VERSION_HINT = f"solc {'.'.join(map(str, MINIMUM_SOLC))} or later is needed"

_Maker = Callable[[], _Solc]
_Routes = tuple[tuple[str, Callable[[CompilerCache], Iterator[_Maker]]], ...]


def _on_path(cache: CompilerCache) -> Iterator[_Maker]:
    yield partial(_binary, "solc", "PATH")


def _solcx_installed(cache: CompilerCache) -> Iterator[_Maker]:
    import solcx

    try:
        versions = sorted(solcx.get_installed_solc_versions(), reverse=True)
    except OSError as error:
        raise _UnavailableError(f"its folder cannot be read: {error}") from error
    if not versions:
        raise _UnavailableError("no version installed")
    for version in versions:
        yield partial(_binary, str(solcx.install.get_executable(version)), "py-solc-x")


def _solcx_download(cache: CompilerCache) -> Iterator[_Maker]:
    logger.info("asking py-solc-x to download solc")
    # In a process of its own: py-solc-x sets no time limit on its requests, and prints.
    _run([sys.executable, "-m", "solcx.install", "latest"], _DOWNLOAD_SECONDS)
    yield from _solcx_installed(cache)


def _npm_installed(cache: CompilerCache) -> Iterator[_Maker]:
    node, found = _which("node"), False
    for folder in _npm_folders():
        if (folder / "solc" / "package.json").is_file():
            found = True
            yield partial(_npm_package, node, folder, cache)
    if not found:
        raise _UnavailableError("no package 'solc' installed")


def _npm_install(cache: CompilerCache) -> Iterator[_Maker]:
    node, npm, place = _which("node"), _which("npm"), _npm_cache()
    logger.info("installing the npm package solc@%s into %s", NPM_SOLC, place)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _UnavailableError(f"cannot write {place}: {error.strerror}") from error
    _run([npm, "install", "--prefix", str(place), *_NPM_OPTIONS, f"solc@{NPM_SOLC}"], _NPM_INSTALL_SECONDS)
    yield partial(_npm_package, node, place / "node_modules", cache)


_DOWNLOADS = {"py-solc-x download", "npm install"}
_ROUTES: _Routes = (
    ("PATH", _on_path),
    ("py-solc-x", _solcx_installed),
    ("npm package", _npm_installed),
    ("py-solc-x download", _solcx_download),
    ("npm install", _npm_install),
)


def find_anvil() -> str:
    """Return the path of Foundry's anvil.

    That in `ML2SC_ANVIL` (nothing else is tried then), on PATH, or in the npm package `@foundry-rs/anvil-…`, which npm
    installs into our cache if need be.

    Raises:
        ToolchainError: there is none.
    """
    try:
        if given := os.environ.get("ML2SC_ANVIL"):
            return _which(given)
        if on_path := shutil.which("anvil"):
            return on_path
        package = f"@foundry-rs/anvil-{platform.system().lower()}-{_MACHINES.get(platform.machine(), 'amd64')}"
        for folder in _npm_folders():
            if (path := folder / package / "bin" / "anvil").is_file():
                return str(path)
        npm, cache = _which("npm"), _npm_cache()
        logger.info("installing the npm package %s@%s into %s", package, NPM_ANVIL, cache)
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".lock"):  # test workers start at the same moment
            _run(
                [npm, "install", "--prefix", str(cache), *_NPM_OPTIONS, f"{package}@{NPM_ANVIL}"], _NPM_INSTALL_SECONDS
            )
        return _which(str(cache / "node_modules" / package / "bin" / "anvil"))
    except (_UnavailableError, OSError) as error:
        raise ToolchainError(
            f"no executable anvil: {error}", hint="install Foundry (or npm, to get it), or use '--chain embedded'"
        ) from error


_MACHINES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def _npm_cache() -> Path:
    return user_cache() / "npm"


def _npm_folders() -> Iterator[Path]:
    """Yield the node_modules folders that may hold the package, nearest first."""
    if given := os.environ.get("ML2SC_SOLC_NPM"):
        yield from (Path(given), Path(given) / "node_modules", Path(given).parent)
    yield Path.cwd() / "node_modules"
    yield _npm_cache() / "node_modules"
    if npm := shutil.which("npm"):
        try:
            yield Path(_run([npm, "root", "--global"], _PROBE_SECONDS).strip())
        except _UnavailableError as error:
            logger.debug("npm has no global folder: %s", error)


def _npm_package(node: str, folder: Path, cache: CompilerCache) -> _Solc:
    command = (node, str(resources.files("ml2sc.runtime").joinpath("solc_node.js")))
    package = (folder / "solc").resolve()
    program = package / "soljson.js"

    def ask() -> Mapping[str, str]:
        return {"version": _version(command, {"ML2SC_SOLC_NPM": str(package)})}

    # loading it takes a second, and what it is depends on this file alone
    version = cache.answer(Compiler("solc", "", program), "--version", ask).get("version")
    return _Solc(command, _accepted(str(version), str(package)), "npm", program, package)


def _binary(name: str, how: str) -> _Solc:
    path = _which(name)  # it may be a script that runs now this version, now that one: it is asked each time
    return _Solc((path,), _accepted(_version((path,), {}), path), how, Path(path))


def _version(command: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """Return what a solc says of its version.

    Raises:
        _UnavailableError: it does not run.
    """
    return _run([*command, "--version"], _PROBE_SECONDS, environment=environment)


def _accepted(answer: str, where: str) -> str:
    """Return the version that a solc says.

    Raises:
        _UnavailableError: it says none, or one that is too old.
    """
    match = re.search(r"(\d+)\.(\d+)\.(\d+)\S*", answer)
    if match is None:
        raise _UnavailableError(f"{where} says no version: {answer[:100]!r}")
    if tuple(map(int, match.groups())) < MINIMUM_SOLC:
        raise _UnavailableError(f"{where} is {match.group(0)}, too old")
    return match.group(0)


def _which(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise _UnavailableError(f"no executable {name}")
    return path


def _run(
    command: list[str], timeout: float | None, stdin: str = "", environment: Mapping[str, str] | None = None
) -> str:
    """Run a program and return its stdout.

    Raises:
        _UnavailableError: it cannot be started, fails, or takes longer than `timeout` seconds.
    """
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            env={**os.environ, **(environment or {})},
            check=True,
            preexec_fn=die_with_parent(),
        )
    except subprocess.TimeoutExpired as error:
        raise _UnavailableError(f"{Path(command[0]).name} took longer than {timeout:.0f} s") from error
    except subprocess.CalledProcessError as error:
        raise _UnavailableError(_ended(command[0], error.returncode, error.stderr or error.stdout)) from error
    except OSError as error:
        raise _UnavailableError(f"{command[0]} does not start: {error.strerror}") from error
    return done.stdout


def _ended(program: str, code: int, said: str) -> str:
    return f"{program} ended with {code}: {_cause(said)}{_cure(said)}"


_CERTIFICATE = (
    "a proxy or virus scanner on the way signs with a certificate of its own: "
    "name that with NODE_EXTRA_CA_CERTS=FILE.pem (npm) and REQUESTS_CA_BUNDLE=FILE.pem (py-solc-x)"
)
_CURES = {
    r"SELF_SIGNED|UNABLE_TO_(?:GET_ISSUER|VERIFY)|CERT_|CERTIFICATE_VERIFY_FAILED": _CERTIFICATE,
    r"E407|ProxyError|Proxy Authentication": "the proxy wants a name and a password: they go into HTTPS_PROXY",
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|Max retries": "there is no way to the network: "
    "set HTTPS_PROXY if one leads through a proxy",
    r"EACCES|EPERM|EROFS|ENOSPC": "its folder cannot be written",
}
"""What to do about what npm and py-solc-x say."""


def _cause(said: str) -> str:
    """Return the line that tells why a program failed: npm ends with the name of its log, Python with the error."""
    lines = [re.sub(r"^npm (?:ERR!|error)\s*", "", line).strip() for line in said.splitlines()]
    lines = [line for line in lines if line and "complete log of this run" not in line and ".npm/_logs" not in line]
    code = next((line.removeprefix("code ") for line in lines if re.fullmatch(r"code \w+", line)), None)
    if code is None:
        return lines[-1] if lines else "no message"
    told = [line for line in lines if not re.match(r"(?:code|errno|syscall|path|network)\b", line)]
    return f"{code}: {told[0]}" if told else code


def _cure(said: str) -> str:
    return next((f" ({cure})" for pattern, cure in _CURES.items() if re.search(pattern, said)), "")
