"""The page: everything that a run folder holds, laid out by the template."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from bnnapps.errors import UsageError
from bnnapps.profile.table import short, size
from bnnapps.report import numbers
from bnnapps.report.bars import bar_plot, bars_by_kind
from bnnapps.report.exports import export_row
from bnnapps.report.figures import Plot, loss_plot, metric_plot, rate_plot
from bnnapps.report.headline import tiles, title_of
from bnnapps.report.heat import heat_plot
from bnnapps.report.layers import layer_rows
from bnnapps.report.records import Costs
from bnnapps.report.run import Run, Stage, read_run
from bnnapps.report.stages import monitored, stage_curves, stage_rows, teacher_of, value_of
from bnnapps.training.folder import RunFolder, write_text

if TYPE_CHECKING:
    from bnnapps.training.task import Section

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(folder: RunFolder, sections: Sequence[Section] = ()) -> Path:
    """Write `report.html` into a run folder, whole or not at all: one file that needs no other and no network.

    The run may be unfinished: what is not there yet is said in its place.

    Args:
        folder: of the run.
        sections: the task's own parts, whose HTML is taken as it is.

    Raises:
        CheckpointError: the file system refuses.

    """
    return write_text(folder.root / "report.html", render_report(read_run(folder), sections))


def render_report(run: Run, sections: Sequence[Section] = ()) -> str:
    """The page as text."""
    jinja = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["breakable"] = breakable
    return jinja.get_template("report.html.j2").render(context(run, sections))


def script_hash(text: str) -> str:
    """How a page's Content-Security-Policy names an inline script: only this text may then run.

    Raises:
        UsageError: the text would end its own element.

    """
    if "</script" in text.lower():
        raise UsageError("a script of the report holds '</script', which would end it: write it another way")
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def breakable(name: str) -> Markup:
    """A dotted name or a path that may break behind its dots, underscores and slashes."""
    text = str(escape(name)).replace("/", "/<wbr>")
    return Markup(text.replace(".", ".<wbr>").replace("_", "_<wbr>"))


def context(run: Run, sections: Sequence[Section] = ()) -> dict[str, Any]:
    """What the template reads."""
    scripts = list(dict.fromkeys(s.script for s in sections if s.script))
    exports = [export_row(e, run.costs.float_bytes if run.costs is not None else None) for e in run.exports]
    planned = None if run.plan is not None else next((s for s in reversed(run.stages) if s.plan is not None), None)
    plan = planned.plan if planned is not None else run.plan
    return {
        "run": run,
        "title": title_of(run),
        "tiles": tiles(run, exports),
        "stages": stage_rows(run),
        "curves": [(stage, plots) for stage in run.stages if (plots := stage_plots(run, stage))],
        "plan": plan,
        "plan_stage": planned.name if planned is not None else None,
        "layers": layer_rows(plan, run.costs),
        "totals": _totals(run.costs),
        "costs": cost_plots(run.costs),
        "exports": exports,
        "sections": [(s.title, Markup(s.html)) for s in sections],
        "scripts": [Markup(text) for text in scripts],
        "script_sources": " ".join(f"'{script_hash(text)}'" for text in scripts) if scripts else "'none'",
        "environment": _environment(run.environment),
        "command": run.environment.get("command") if run.environment is not None else None,
        "plain": numbers.plain,
    }


def stage_plots(run: Run, stage: Stage) -> list[Plot]:
    """The curves of a stage, of whatever it logged."""
    found, metric, prefix = stage_curves(run, stage), monitored(run), f"stage-{stage.number}"
    plots = []
    if len(found.total) or found.terms:
        plots.append(loss_plot(found.total, found.terms, found.steps, f"{prefix}-loss"))
    if found.metrics:
        teacher = teacher_of(stage, run.stages)
        chosen = value_of(stage, metric)
        last = stage.result is not None and stage.result.selected == "last"
        beside = value_of(teacher, metric)
        plots.append(metric_plot(found.metrics, metric, found.steps, f"{prefix}-dev", chosen, beside, from_end=last))
    if found.rates:
        plots.append(rate_plot(found.rates, found.steps, f"{prefix}-rate"))
    if found.flips:
        remark = "The fraction of a layer's binary weights whose sign changed in the epoch."
        plots.append(heat_plot("Signs that flipped", found.flips, f"{prefix}-flips", remark))
    if any(any(s.values) for s in found.saturation):
        remark = "The fraction of the inputs of a sign outside its window, in the first batch of the epoch."
        plots.append(heat_plot("Inputs without gradient", found.saturation, f"{prefix}-saturation", remark))
    return plots


def cost_plots(costs: Costs | None) -> list[Plot]:
    """Bytes and operations by kind of layer, before and after."""
    if costs is None:
        return []
    plots = []
    stored = bars_by_kind([(r.type, r.float_bytes, r.packed_bytes) for r in costs.layers])
    if stored:
        labels = f"float32, {size(costs.float_bytes)}", f"packed, {size(costs.packed_bytes)}"
        plots.append(bar_plot("Bytes by kind of layer", stored, labels, size, "bytes"))
    products = bars_by_kind([(r.type, r.float_products, r.flops + r.bops / 64) for r in costs.layers if r.macs])
    if products:
        before = f"MACs of the float network: {numbers.count(costs.float_macs)}"
        labels = before, f"OPs: {numbers.count(costs.ops_paper)}"
        remark = "OPs = float MACs + BOPs / 64, in one forward pass on the task's example inputs."
        if costs.ops_all is not None:
            remark += f" With every other float operation: {numbers.count(costs.ops_all)}."
        plots.append(bar_plot("Operations by kind of layer", products, labels, numbers.count, "operations", remark))
    return plots


def _totals(costs: Costs | None) -> Mapping[str, str] | None:
    if costs is None:
        return None
    return {
        "params": short(costs.params_1bit + costs.params_2bit + costs.params_float),
        "float_bytes": size(costs.float_bytes),
        "packed_bytes": size(costs.packed_bytes),
        "macs": short(costs.macs),
        "bops": short(costs.bops),
    }


def _environment(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    return [(str(k), numbers.plain(v)) for k, v in (found if found is not None else {}).items() if k != "command"]
