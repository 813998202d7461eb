"""What the report reads from the JSON files of a run. Unknown keys are ignored, so that newer files can be read."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class StageResult(_Read):
    """`stages/<number>-<name>/result.json`."""

    metrics: dict[str, float] = Field(default_factory=dict)
    """Of the weights that the stage hands on."""
    last: dict[str, float] = Field(default_factory=dict)
    """Of the weights of its last epoch."""
    monitor: str | None = None
    selected: str | None = None
    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None
    resumed_from_step: int | None = None
    maximize: bool = True


class ExportResult(_Read):
    """One export in `result.json`."""

    dialect: str
    path: str


class RunResult(_Read):
    """`result.json`."""

    task: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    monitor: str | None = None
    exports: list[ExportResult] = Field(default_factory=list)


class LayerCost(_Read):
    """One layer of `summary.json`: see `bnnapps.profile.summary.LayerRow`."""

    name: str
    type: str
    kind: str = ""
    shape: tuple[int, ...] | None = None
    macs: int = 0
    float_macs: int | None = None
    bops: int = 0
    flops: int = 0
    other_ops: int = 0
    params_1bit: int = 0
    params_2bit: int = 0
    params_float: int = 0
    packed_bytes: int = 0
    float_bytes: int = 0

    @property
    def params(self) -> int:
        """All parameters, as they are deployed."""
        return self.params_1bit + self.params_2bit + self.params_float

    @property
    def float_products(self) -> int:
        """`float_macs`; `macs` where the summary does not say."""
        return self.macs if self.float_macs is None else self.float_macs


class Costs(_Read):
    """`summary.json`: see `bnnapps.profile.summary.Summary`."""

    model: str = ""
    flops: int
    bops: int
    ops_paper: float
    ops_all: float | None = None
    params_1bit: int
    params_2bit: int = 0
    params_float: int
    packed_bytes: int
    float_bytes: int
    layers: tuple[LayerCost, ...] = ()

    @property
    def macs(self) -> int:
        """All multiply-accumulates, those of codes and the others."""
        return sum(row.macs for row in self.layers)

    @property
    def float_macs(self) -> int:
        """Those that the float network has too; of summaries that do not say which, all."""
        return sum(row.float_products for row in self.layers)


class LevelParity(_Read):
    """One graph-optimisation level of a parity file: see `bnnapps.export.parity.LevelRecord`."""

    level: str
    verdict: str
    max_abs_diff: float | None = None
    led_max_abs_diff: float | None = None
    argmax_agreement: float | None = None
    codes: int = 0
    sign_flips: int = 0
    sums: int = 0


class StepParity(_Read):
    """One step of an export, as it was checked against the one before."""

    name: str
    agrees: str = ""
    max_abs_diff: float | None = None


class ParityRecord(_Read):
    """`export/<dialect>/model.parity.json`: see `bnnapps.export.parity.Parity`."""

    verdict: str
    levels: tuple[LevelParity, ...] = ()
    layers: dict[str, int] = Field(default_factory=dict)
    inputs: tuple[dict[str, Any], ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    steps: tuple[StepParity, ...] = ()
    dynamic_axes: dict[str, list[str]] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    latency: Any = None


class LatencyRecord(_Read):
    """One file at one number of threads and one batch size: see `bnnapps.export.bench.latency.Latency`."""

    name: str
    threads: int
    batch: int
    runs: int = 0
    median: float
    p10: float
    p90: float


class MeasuredFile(_Read):
    """One file of a measurement."""

    name: str
    bytes: int
    memory_bytes: int | None = None
    start: float | None = None


class BenchRecord(_Read):
    """`export/<dialect>/model.bench.json`: see `bnnapps.export.bench.run.Bench`. Times are milliseconds."""

    name: str
    kernels: str | None = None
    cpu: str = ""
    latencies: tuple[LatencyRecord, ...] = ()
    files: tuple[MeasuredFile, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int | None:
        """The size that the measured file had."""
        return next((f.bytes for f in self.files if f.name == self.name), None)
