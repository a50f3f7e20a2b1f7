"""A private key typed in the wrong place, or the access key of a URL: no command repeats it, wherever it stands."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pretend_chain import KEY, PretendChain
from support.updates import network, samples

import ml2sc
from ml2sc.cli import check, compile, deploy, update  # noqa: A004
from ml2sc.cli.common import hide, make_parser, run
from ml2sc.foreign import Secrets, looks_secret, parse_json, shown
from ml2sc.runtime.transport import HttpAnswer, Transport

DIGITS = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
URL = "http://127.0.0.1:9/v3/ACCESSKEY77"

COMMANDS = {"compile": compile.main, "check": check.main, "deploy": deploy.main, "update": update.main}


@pytest.fixture(scope="module")
def artifact() -> ml2sc.Artifact:
    model, data = network(1, (3, 2)), {"x": samples(1, (3, 2))}
    return ml2sc.compile(model, calibration=data, precision="int8", updatable=True, name="Net")


@pytest.fixture(autouse=True)
def _node(artifact: ml2sc.Artifact, monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendChain]:
    """Put a node behind every URL, and a folder behind the name "folder"."""
    load, chain = ml2sc.load_folder, PretendChain()
    told: list[bytes] = []

    def post(_: Transport, body: bytes, limit: int) -> HttpAnswer:
        told.append(body)
        return chain.post(body, limit)

    monkeypatch.setattr("ml2sc.folder.load_folder", lambda path: artifact if str(path) == "folder" else load(path))
    monkeypatch.setattr(Transport, "post", post)
    monkeypatch.setenv("ML2SC_PRIVATE_KEY", KEY)
    yield chain
    assert not [body for body in told if DIGITS[:-1].encode() in body.lower()], "a node was told"


PLACES = [
    "deploy folder --chain {}",
    "deploy folder --chain http://127.0.0.1:9/{}",
    "deploy folder --chain http://{}@127.0.0.1:9/",
    "deploy folder --chain ws://{}",
    "deploy folder --chian http://127.0.0.1:9/{}",
    "deploy {}",
    "deploy folder {}",
    f"deploy folder --chain {URL} --dry-run --key-env {{}}",
    f"deploy folder --chain {URL} --dry-run --keystore {{}}",
    f"deploy folder --chain {URL} --dry-run --unlocked={{}}",
    f"deploy folder --chain {URL} --dry-run --unlocked {{}}",
    f"deploy folder --chain {URL} --dry-run --owner {{}}",
    f"deploy folder --chain {URL} --dry-run --passphrase-file {{}} --keystore x",
    "deploy folder --chain anvil --owner {} --chain-id {}",
    "deploy folder --max-fee {}",
    "deploy folder --tip {}",
    "deploy folder --wait {}",
    "deploy folder --chain-id {}",
    "deploy folder --key {}",
    "deploy folder --private-key={}",
    "deploy folder -{}",
    f"check folder --chain {URL} --address {{}}",
    "check folder --chain {}",
    "check {}",
    "check folder --samples {}",
    "check folder --solc {}",
    f"update folder --chain {URL} --address {{}} --freeze",
    f"update folder --chain {URL} --transfer-ownership {{}}",
    f"update folder --chain {URL} --model {{}}",
    "update folder --chain {} --freeze",
    "compile {}",
    "compile model.onnx --target {}",
    "compile model.onnx --precision {}",
    "compile model.onnx --calibrate {} -o {}",
]


@pytest.mark.parametrize("form", ["{}", "0x{}", "0X{}", "'{}'"])
@pytest.mark.parametrize("place", PLACES)
def test_a_key_in_the_wrong_place(
    place: str, form: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for key in (DIGITS, DIGITS.upper(), DIGITS[:-1]):  # and one digit short
        command, *arguments = place.replace("{}", form.format(key)).split()
        status = COMMANDS[command]([*arguments, "-v"])
        said = capsys.readouterr()
        assert status in (1, 2, 3), said.err
        assert key.lower() not in (said.out + said.err).lower()
        assert "ACCESSKEY77" not in said.out + said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("deploy", "folder", "--chain", URL, "--colour"),
        ("deploy", "folder", "--chain", URL, URL),
        ("check", URL),
        ("compile", URL),
        ("deploy", URL),
        ("update", "folder", "--chain", URL, "--address", URL, "--freeze"),
    ],
)
def test_an_access_key_in_the_wrong_place(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert COMMANDS[arguments[0]]([*arguments[1:], "-v"]) in (1, 2, 3)
    said = capsys.readouterr()
    assert "ACCESSKEY77" not in said.out + said.err


def test_every_exit(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a command writes: stdout, stderr, notes, tracebacks, and a bug's text."""
    parser = make_parser("ml2sc-test", "")
    parser.add_argument("key")

    def command(arguments: object) -> None:
        key = arguments.key  # type: ignore[attr-defined]
        print(key, key.upper())  # noqa: T201
        print(key, file=sys.stderr)  # noqa: T201
        sys.stdout.writelines([key])
        ml2sc.cli.common.logger.warning("%s", key)  # type: ignore[attr-defined]
        hide("hidden later")
        print("hidden later")  # noqa: T201
        raise RuntimeError(key)

    assert run(parser, command, ["0x" + DIGITS, "-v"]) == 70
    said = capsys.readouterr()
    assert "Traceback" in said.err
    assert said.err.count("0x…") >= 4
    assert DIGITS not in (said.out + said.err).lower()
    assert "hidden later" not in said.out


def test_files_are_no_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder named by a hash is named in messages."""
    folder = tmp_path / DIGITS
    folder.mkdir()
    assert check.main([str(folder)]) == 1
    assert DIGITS in capsys.readouterr().err


def test_what_a_terminal_cannot_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half a character pair nor an old terminal's alphabet ends in a bug."""
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert run(make_parser("t", ""), lambda _: print("é \ud800"), []) == 0  # noqa: T201
    stdout.flush()
    assert stdout.buffer.getvalue() == b"\\xe9 \\ud800\n"  # type: ignore[attr-defined]


def test_shown() -> None:
    assert shown("a\x1b[31m\r\n\u202eb\ud800") == "a\\x1b[31m\\r\\n\\u202eb\\ud800"
    assert shown("x" * 1000, 5) == "xxxxx…"


@pytest.mark.parametrize(
    "text", ["[" * 65 + "]" * 65, "[" + "[]," * 200_000 + "[]]", "", "{", '"', '"\\', "\xff", "[1" + "0" * 5000]
)
def test_json_that_hurts(text: str) -> None:
    with pytest.raises(ValueError, match=r"no JSON|more than 64 deep"):
        parse_json(text.encode("latin-1"))


def test_json_with_brackets_in_strings() -> None:
    assert parse_json(b'{"a": ["' + b"[" * 1000 + b'\\"{{{"]}') == {"a": ["[" * 1000 + '"{{{']}


@pytest.mark.parametrize("text", [DIGITS, "0x" + DIGITS, "0X" + DIGITS, DIGITS[:60], f"--key={DIGITS}"])
def test_looks_secret(text: str) -> None:
    assert looks_secret(text)
    assert not looks_secret("0x" + "ab" * 20)  # an address


def test_nothing_to_hide() -> None:
    assert Secrets().redact("as it is") == "as it is"
