"""`manifest.json`: what a folder says of itself, every entry with its type.

An entry is one of three things. What a compilation starts from (options, what calibration found) is read into what
`compile` takes. What it gives (formats, intervals, bounds, hashes) is compared with what it gives again. And there are
notes: what cannot be had again without the calibration data or the compiler (`NOTES`). They are what whoever compiled
the model says; nothing depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import from_json

from ml2sc.backends.base import CONTRACT
from ml2sc.calibration import Calibrated
from ml2sc.caller import INTERFACE, VECTORS
from ml2sc.errors import ArtifactError
from ml2sc.files import inner_name
from ml2sc.frontend.names import contract_name
from ml2sc.interfaces import interface_names
from ml2sc.ir.chains import ChainProfile, ProfileError
from ml2sc.ir.trees import MOST_NODES
from ml2sc.jsontext import json_text
from ml2sc.options import Options
from ml2sc.passes.lower.options import Activity
from ml2sc.passes.updatable import Deployed

MODEL = "model.onnx"
MANIFEST = "manifest.json"
WEIGHTS = "weights.bin"
_OURS = frozenset({MODEL, WEIGHTS, INTERFACE, VECTORS})
"""Files that have the same name in every folder."""
EXTERNAL = "external"
"""Folder of the model's external data files: a model names them, so they are kept apart from ours."""

NOTES = frozenset({"files", "toolchain", "code_bytes", "code_contracts", "calibration", "gas", "verdict"})
"""What compiling the model again does not give."""

OTHER_VERSION = "it was edited, or made by another version of ml2sc; compile the model again"

_Hash: TypeAlias = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
_Digest: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=200)]
_Integer: TypeAlias = Annotated[str, Field(pattern=r"^-?[0-9]{1,100}$")]
_Rational: TypeAlias = Annotated[str, Field(pattern=r"^-?[0-9]{1,1500}(/0*[1-9][0-9]{0,1500})?$")]
_Count: TypeAlias = Annotated[int, Field(ge=0)]
_Range: TypeAlias = tuple[float, float]
_Ranges: TypeAlias = _Range | Annotated[tuple[_Range, ...], Field(min_length=1)]
"""The range of all elements of an input, or of each."""
_Real: TypeAlias = float | None
"""A number that is null where there is none, or where it is infinite."""


class _Entry(BaseModel):
    """An entry of known keys, each of its very type, its numbers finite."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _Options(_Entry):
    """`ml2sc.options.Options`."""

    target: str
    precision: str
    min_agreement: float | None
    margin: float | None
    tolerance: float | None
    input_ranges: tuple[_Ranges, ...]
    column_ranges: tuple[()]
    column_names: tuple[str, ...]
    class_names: tuple[str, ...]
    weights: str
    optimize: str
    expected_calls: int | None
    expected_updates: int | None
    fork: str
    chain_profile: dict[str, JsonValue] | None = None
    level: int
    passes: str | None
    name: _Name
    strict_input: bool
    packed_only: bool = False
    labels: str = "onnxruntime"
    updatable: bool
    headroom: int
    timelock: int
    erc165: bool = False
    erc7201: bool = False
    form: str = CONTRACT


class _Integers(_Entry):
    name: str
    shape: tuple[_Count, ...]
    format: str
    zero_point: int
    interval: tuple[_Integer, _Integer]


class _Tensor(_Integers):
    scale: _Rational


class _Input(_Integers):
    """An input: scale and range of all elements, or those of each with the offset that goes with them."""

    scale: _Rational | tuple[_Rational, ...]
    range: _Ranges
    offset: tuple[float, ...] | None = None
    columns: tuple[str, ...] | None = None


class _Bounded(_Tensor):
    error_bound: _Real


class _Field(_Entry):
    """A field of a thermometer code: bit n of it is set if the element is greater than edge n."""

    element: _Count
    word: _Count
    bit: _Count
    missing: int
    edges: tuple[_Real, ...]


class _Rank(_Entry):
    """How many edges an element is greater than; one more than there are if it is missing."""

    element: _Count
    byte: _Count
    edges: tuple[_Real, ...]


class _Code(_Entry):
    """A packed input that is no elements: words of fields, or ranks (`ml2sc.ir.thermometer`)."""

    bytes: _Count
    float: str
    fields: tuple[_Field, ...] | None = None
    rank_bytes: int | None = None
    ranks: tuple[_Rank, ...] | None = None


class _Layer(_Entry):
    """A layer's plan: some facts of a known type, others as its kind of layer has them."""

    model_config = ConfigDict(extra="allow")

    layer: str
    title: str
    live: str | None = None
    gas: int | None = None


class _Data(_Entry):
    bytes: _Count


class _Calibrated(_Entry):
    """`ml2sc.calibration.Calibrated`."""

    observed: dict[str, _Range]
    equalized: bool
    corrections: dict[str, tuple[float, ...]]


_Some = Annotated[int, Field(ge=0, le=MOST_NODES)]


class _Trees(_Entry):
    """`ml2sc.ir.types.TreeRoom`."""

    own: tuple[_Some, ...]
    joint: _Some
    forks: _Some
    depth: _Some


class _Room(_Entry):
    sums: tuple[_Integer, _Integer]
    weight_bits: Annotated[int, Field(ge=1, le=256)]
    trees: _Trees | None = None


class _Ranks(_Entry):
    """`ml2sc.ir.thermometer.Room`."""

    width: Annotated[int, Field(ge=1, le=4)]
    up: bool
    down: bool
    edges: _Some = 0
    double: bool = False


class _Deployed(_Entry):
    """`ml2sc.passes.updatable.Deployed`."""

    formats: dict[str, tuple[Annotated[int, Field(ge=1, le=256)], bool, _Rational, int]]
    layers: dict[str, _Room]
    ranks: _Ranks | None = None


class _Notes(_Entry):
    settings: dict[str, JsonValue] = {}
    edits: dict[str, str] = {}


class _Toolchain(_Notes):
    compiler: str = ""
    found: str = ""
    parts: tuple[_Notes, ...] = ()


class _Called(_Entry):
    cold: _Count
    warm: _Count


class _Posted(_Entry):
    inference: _Count
    deploy: tuple[_Count, ...] = ()


class _Gas(_Entry):
    predicted: _Count
    worst: _Count
    called: _Called
    deploy: _Count
    weights: _Count
    transactions: _Count
    inputs: str
    code: str
    posted: _Posted | None = None


class _Verdict(_Entry):
    fits: str
    deploy: _Count
    weights: _Count
    inference: _Count
    worst: _Count
    obstacles: tuple[str, ...]
    remedies: tuple[str, ...]


class _Fidelity(_Entry):
    tensor: str
    operator: str
    origin: tuple[str, ...]
    format: str
    scale: _Real
    range: str | None
    values: _Count
    saturated: _Count
    error: _Real
    added: _Real
    signal_to_noise: _Real


class _Differing(_Entry):
    sample: _Count
    contract: int
    model: int


class _Column(_Entry):
    input: str
    column: _Count
    values: _Count


class _Calibration(_Entry):
    """What `ml2sc.fidelity.assess` found."""

    samples: _Count
    assessed: _Count
    max_abs_error: _Real
    mean_abs_error: _Real
    error_percentiles: dict[str, _Real]
    saturated_samples: _Count
    outside: tuple[_Column, ...]
    decision_agreement: _Real
    agreement_lower_bound: _Real
    differing: tuple[_Differing, ...]
    accuracy: _Real
    model_accuracy: _Real
    r2: _Real
    label_r2: _Real
    model_label_r2: _Real
    layers: tuple[_Fidelity, ...]
    advice: str | None


class Manifest(_Entry):
    """A manifest, typed. What `compile` and `build` put into one is there under the same key."""

    name: _Name
    target: str
    precision: str
    options: _Options
    model_hash: _Hash
    model_hash_version: int
    element_bytes: int
    input_elements: int
    inputs: tuple[_Input, ...]
    code: _Code | None = None
    outputs: tuple[_Tensor, ...]
    decision: bool
    classes: tuple[str, ...] | None = None
    error_bound: _Real
    error_bound_unsaturated: _Real
    error_bound_relative: _Real
    tensors: tuple[_Bounded, ...]
    plan: tuple[_Layer, ...]
    choices: dict[str, str]
    data_contracts: tuple[_Data, ...]
    toolchain: _Toolchain
    calibrated: _Calibrated
    files: dict[str, _Digest] = {}
    weights_hash: _Hash | None = None
    deployed: _Deployed | None = None
    code_bytes: _Count | None = None
    code_contracts: tuple[_Data, ...] = ()
    calibration: _Calibration | None = None
    gas: _Gas | None = None
    verdict: dict[str, _Verdict] | None = None

    @classmethod
    def of(cls, entries: Mapping[str, Any]) -> Manifest:
        """Return an artifact's manifest, typed."""
        return cls.model_validate_json(json_text(entries))

    def _chain_profile(self) -> ChainProfile | None:
        entries = self.options.chain_profile
        try:
            return None if entries is None else ChainProfile.of(entries)
        except ProfileError as error:
            raise ValueError(f"chain_profile: {error}") from error

    def recipe(self) -> dict[str, Any]:
        """Return the arguments of `compile` that make the same contract of the same model again.

        Raises:
            ValueError: an entry has the right type and no meaning.
        """
        options = Options(**{**self.options.model_dump(), "chain_profile": self._chain_profile()})
        for key in ("name", "target", "precision"):
            if getattr(options, key) != getattr(self, key):
                raise ValueError(f"{key} is not that of the options")
        activity = {layer.layer: layer.live for layer in self.plan if layer.live is not None}
        for live in activity.values():
            Activity.read(live)
        deployed = None if self.deployed is None else self.deployed.model_dump()
        if options.updatable != (deployed is not None):
            raise ValueError("the plan of an updatable contract is missing, or there is one of a contract that is not")
        return {
            "options": options,
            "calibrated": Calibrated.from_json(self.calibrated.model_dump()),
            "activity": activity,
            "choices": self.choices,
            "deployed": None if deployed is None else Deployed.from_json(deployed),
        }


class Listing(BaseModel):
    """The part of a manifest, of any version, by which a folder's files are known to be ours."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    name: _Name
    model_hash: _Hash
    files: dict[str, _Digest]

    def is_ours(self, name: str) -> bool:
        """Return whether ml2sc writes files of that name for the contract."""
        return is_ours(name, self.name)


def is_ours(file: str, name: str) -> bool:
    """Return whether ml2sc writes files called `file` for a contract called `name`."""
    try:
        shortest = inner_name(file)
    except OSError:
        return False
    top, *below = file.split("/")
    ours = file in _OURS or file in interface_names(name) or file.startswith(f"{name}.")
    return shortest == file and (top == EXTERNAL if below else ours)


def read_manifest(content: bytes, path: Path) -> tuple[Manifest, dict[str, Any]]:
    """Read a manifest.

    Args:
        content: The file's bytes.
        path: What to call it in messages.

    Returns:
        It, typed, and its entries as they are.

    Raises:
        ArtifactError: it is no manifest: the text names the entry.
    """
    try:
        manifest = Manifest.model_validate_json(content)
        entries: dict[str, Any] = from_json(content, allow_inf_nan=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(ascii(part)[1:-1] if isinstance(part, str) else str(part) for part in first["loc"])
        where = f"{place:.200}: " if place else ""
        raise ArtifactError(
            f"{path} is no manifest of ml2sc: {where}{first['msg']:.200}", hint=OTHER_VERSION
        ) from error
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON: {error}", hint=OTHER_VERSION) from error
    if contract_name(manifest.name) != manifest.name:
        raise ArtifactError(f"{path} is no manifest of ml2sc: name: no contract is called so", hint=OTHER_VERSION)
    foreign = next((file for file in manifest.files if not is_ours(file, manifest.name)), None)
    if foreign is not None:
        raise ArtifactError(f"{path} lists a file that ml2sc does not write: {foreign!r:.100}", hint=OTHER_VERSION)
    return manifest, entries
