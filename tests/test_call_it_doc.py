"""docs/call-it.md: every snippet is run against a deployed contract; docs/chains.md: its table is the profiles'."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import forking
from support.examples import compiled
from support.node import ethers_modules, node, node_modules
from support.pretend_chain import PretendChain

import ml2sc
from ml2sc.folder import write_folder
from ml2sc.ir.chains import PROFILES, ChainProfile
from ml2sc.kits import write_kits
from ml2sc.runtime.contract import Contract, encode_call
from ml2sc.runtime.deploy import deploy

DOCS = Path(__file__).parent.parent / "docs"
PIXELS = [i % 17 for i in range(64)]


def snippets(language: str) -> list[str]:
    """Return the page's snippets in a language."""
    text = (DOCS / "call-it.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def artifact(toolchain: ml2sc.Toolchain) -> ml2sc.Artifact:
    return ml2sc.build(compiled("digits"), toolchain)


@pytest.fixture(scope="module")
def folder(artifact: ml2sc.Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits"
    write_folder(artifact, path)
    write_kits(["ts", "python"], artifact, path, {})
    return path


@pytest.fixture(scope="module")
def contract(artifact: ml2sc.Artifact) -> tuple[Contract, PretendChain]:
    chain = PretendChain()
    address = deploy(artifact, chain._chain).address
    return Contract(chain._chain, address, artifact.abi), chain


@pytest.fixture(scope="module")
def node_url(contract: tuple[Contract, PretendChain]) -> Iterator[str]:
    """Serve the chain as a node does."""
    chain, lock = contract[1], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                many = [json.loads(chain.post(json.dumps(one).encode(), 1 << 24).body) for one in _listed(body)]
            answer = json.dumps(many if isinstance(body, list) else many[0]).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _listed(body: Any) -> list[Any]:
    return body if isinstance(body, list) else [body]


@pytest.fixture(scope="module")
def digit(artifact: ml2sc.Artifact, contract: tuple[Contract, PretendChain]) -> str:
    """Return what the contract says of the page's pixels."""
    return str(contract[0].call("classifyPacked", ml2sc.pack(artifact, PIXELS)))


def ran(command: list[str], place: Path, url: str, address: str) -> list[str]:
    environment = {**os.environ, "RPC_URL": url, "ADDRESS": address}
    program, *arguments = command
    if program == sys.executable:
        done = forking.python(*arguments, cwd=place, env=environment)
    else:
        done = subprocess.run(command, cwd=place, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_from_a_contract(
    artifact: ml2sc.Artifact,
    folder: Path,
    contract: tuple[Contract, PretendChain],
    digit: str,
    toolchain: ml2sc.Toolchain,
) -> None:
    (source,) = snippets("solidity")
    sources = {"Reader.sol": source, "DigitsHandle.sol": (folder / "DigitsHandle.sol").read_text()}
    asked = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": {"outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}}, "evmVersion": "prague"},
    }
    output = toolchain.solc(asked).output
    assert not [e for e in output.get("errors", ()) if e["severity"] == "error"]
    reader = output["contracts"]["Reader.sol"]["Reader"]
    model, chain = contract[0].address, contract[0].chain
    init = bytes.fromhex(reader["evm"]["bytecode"]["object"]) + bytes(12) + bytes.fromhex(model[2:])
    address = chain.deploy(init).address
    chain.transact(address, encode_call(reader["abi"], "show", ml2sc.pack(artifact, PIXELS)))
    sender: Any = chain.account
    assert str(Contract(chain, address, reader["abi"]).call("read", sender)) == digit


def test_web3(folder: Path, contract: tuple[Contract, PretendChain], node_url: str, digit: str, tmp_path: Path) -> None:
    (source,) = snippets("python")
    shutil.copy(folder / "kits" / "python" / "interface.json", tmp_path)
    (tmp_path / "call.py").write_text(source)
    said = ran([sys.executable, "call.py"], tmp_path, node_url, contract[0].address)
    assert (said[0], said[-1]) == (digit, "10")


def javascript(folder: Path, modules: Path | None, tmp_path: Path) -> Path:
    project = Path(shutil.copytree(folder / "kits" / "ts", tmp_path / "ts"))
    if modules is not None:
        (project / "node_modules").symlink_to(modules)
    return project


def test_viem(folder: Path, contract: tuple[Contract, PretendChain], node_url: str, digit: str, tmp_path: Path) -> None:
    (source,) = snippets("typescript")
    project = javascript(folder, node_modules(), tmp_path)
    # types are stripped by hand, as an old Node does not: there is one
    (project / "call.mjs").write_text(source.replace(" as `0x${string}`", ""))
    assert ran([node(), "call.mjs"], project, node_url, contract[0].address) == [digit, "10"]


@pytest.mark.heavy
def test_ethers(
    folder: Path, contract: tuple[Contract, PretendChain], node_url: str, digit: str, tmp_path: Path
) -> None:
    source, _ = snippets("javascript")
    project = javascript(folder, ethers_modules(), tmp_path)
    (project / "call.mjs").write_text(source)
    assert ran([node(), "call.mjs"], project, node_url, contract[0].address) == [digit]


def test_a_wallet(
    folder: Path, contract: tuple[Contract, PretendChain], node_url: str, digit: str, tmp_path: Path
) -> None:
    """The wallet is one that forwards to the node."""
    _, source = snippets("javascript")
    project = javascript(folder, None, tmp_path)
    wallet = """
    const request = async ({ method, params = [] }) => {
      const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
      const headers = { "content-type": "application/json" };
      const answer = await (await fetch(process.env.RPC_URL, { method: "POST", headers, body })).json();
      if (answer.error) throw new Error(answer.error.message);
      return answer.result;
    };
    globalThis.window = { ethereum: { request }, digits: process.env.ADDRESS, chain: "0x7a69" };
    """
    (project / "wallet.mjs").write_text(wallet)
    (project / "call.mjs").write_text(f'import "./wallet.mjs";\n{source}')
    assert ran([node(), "call.mjs"], project, node_url, contract[0].address) == [digit]


def test_the_table_of_chains() -> None:
    text = (DOCS / "chains.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    found = {row[0]: row[1:] for row in rows if row[0] in PROFILES and len(row) == 8}
    assert list(found) == list(PROFILES)
    for name, row in found.items():
        p = PROFILES[name]
        limits = (p.transaction_gas, p.block_gas, p.code_limit, p.initcode_limit, p.call_gas)
        assert row == [*(f"{figure:,}" for figure in limits), p.evm, ", ".join(map(str, p.chain_ids))]


def test_the_file_of_a_chain() -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", (DOCS / "chains.md").read_text(), re.DOTALL | re.MULTILINE)
    entries = tomllib.loads(text)
    like = entries.pop("like")
    profile = ChainProfile.of({**PROFILES[like].to_json(), **entries})
    assert set(entries) == set(profile.to_json()), "every entry is on the page"
