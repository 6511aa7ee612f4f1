"""The report of a study: one HTML file that needs nothing else. From numbers and files to the page."""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from noisetransfer.artifacts import read_json, read_table, read_tensors
from noisetransfer.explorer import LAYOUT, as_json, explorer
from noisetransfer.figures import TITLES
from noisetransfer.findings import headline, remainders, sentences, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

PAGE = Path(__file__).parent / "page"
CELL = ["study", "network", "site", "source", "target", "arm", "tau", "regime"]


@dataclass(frozen=True)
class Picture:
    """A drawn figure: its bytes as PNG, and what it is, for those who do not see it."""

    png: bytes
    title: str

    @property
    def uri(self) -> str:
        """The picture as an address that needs no file."""
        return png_uri(self.png)


@dataclass(frozen=True)
class Grid:
    """A table to read: names of its columns, and rows of text; `caption` tells what it shows."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page: text, tables, an interactive heatmap, an interactive plot, pictures."""

    id: str
    title: str
    text: list[str] = field(default_factory=list)
    explorer: dict[str, Any] | None = None
    plot: dict[str, Any] | None = None
    plot_title: str = ""
    grids: list[Grid] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """The whole page.

    Attributes:
        title: of the page.
        summary: sentences at its top.
        sections: in the order of the page.
        files: name → content of the files that the page offers for download.
        examples: network → modification → addresses of a clean image and of the same image modified.
        details: title → text, such as the study as JSON, folded away.
    """

    title: str
    summary: list[str]
    sections: list[Section]
    files: dict[str, str] = field(default_factory=dict)
    examples: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)


def render(page: Page) -> str:
    """Return a page as HTML; all of its text is escaped."""
    loader = FileSystemLoader(PAGE)
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [section for section in page.sections if section.explorer or section.plot]
    data = {
        "explorers": {s.id: s.explorer for s in shown if s.explorer},
        "plots": {s.id: s.plot for s in shown if s.plot},
        "examples": page.examples,
    }
    return environment.get_template("page.html.j2").render(
        page=page, data=data, plotly=_plotly(), pack=packed
    )


@cache
def _plotly() -> str:
    return packed(get_plotlyjs())


def packed(text: str) -> str:
    """Return a text as gzip in base64: a third of its size, and safe inside a script element."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def of_study(results: Path, diagnostics: Sequence[Path] = ()) -> Page:
    """Make the report of a study from its folder of results.

    Args:
        results: with provenance.json and tables/; where they are there, with checks/ and figures/.
        diagnostics: of the fits of its covariances, NETWORK/SITE/UNIT/TRIALS.json.

    Raises:
        StudyError: if one of them is missing or damaged.
    """
    provenance = read_json(results / "provenance.json")
    study = provenance["study"]
    tables = {name: read_table(results / f"tables/{name}.parquet") for name in study["experiments"]}
    main = headline(tables)
    names = [main, *(name for name in tables if name != main)]
    judged = _verdicts(results, names)
    opening = dict.fromkeys([main, *judged])
    told = [text for name in opening for text in sentences(name, tables[name], judged.get(name))]
    own = [
        section
        for name in names
        for section in _experiment(results, name, tables[name], names, judged.get(name))
    ]
    sheets = _pictures(results / "figures/modifications")
    images = [Section("images", "The images", pictures=[*sheets.values()])] if sheets else []
    return Page(
        title=f"Study {study['study']}",
        summary=[*told, *warning(tables), *_degenerate(diagnostics)],
        sections=[*own, *images, _provenance(provenance)],
        files=files(results / "tables"),
        examples=_examples(results, study["networks"]),
        details={"The study": _pretty(study)},
    )


def _verdicts(results: Path, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Return the verdicts on the gains of the experiments that were audited."""
    paths = {name: results / f"tables/{name}_verdicts.parquet" for name in names}
    return {name: read_table(path) for name, path in paths.items() if path.is_file()}


def _degenerate(diagnostics: Iterable[Path]) -> list[str]:
    """Name the sources that are too weak to have a structure, in any trial."""
    found = [
        f"{source} at {path.parent.parent.name} of {path.parent.parent.parent.name}"
        for path in diagnostics
        for source, trials in read_json(path).items()
        if any(one.get("degenerate") for one in trials)
    ]
    told = ", ".join(dict.fromkeys(found))
    return [f"Sources too weak to have a structure (degenerate): {told}."] if told else []


def summary_of(results: Path, experiment: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return the summary of an experiment; where none was written, means over trials without intervals."""
    path = results / f"tables/{experiment}_summary.parquet"
    return read_table(path) if path.is_file() else without_intervals(table)


def without_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over trials of every cell of a transfer table; intervals and p are NaN.

    Returns:
        columns `CELL`, n, trials, resampled (empty), and of each measure its mean, _low, _high, and of gains
        _p and _p_adjusted.
    """
    groups = table.groupby(CELL, sort=True, observed=True)
    means = groups[list(TITLES)].mean().reset_index()
    counts = groups.agg(n=("n", "first"), trials=("trial", "nunique")).reset_index(drop=True)
    found = means.assign(n=counts["n"], trials=counts["trials"], resampled="")
    ends = ("_low", "_high", "_p", "_p_adjusted")
    return found.assign(
        **{
            f"{name}{end}": np.nan
            for name in TITLES
            for end in (ends[:2] if name == "accuracy" else ends)
        }
    )


def files(folder: Path) -> dict[str, str]:
    """Return every Parquet table of a folder as CSV, by name."""
    return {
        f"{path.stem}.csv": read_table(path).to_csv(index=False, lineterminator="\n")
        for path in sorted(folder.glob("*.parquet"))
    }


def _experiment(
    results: Path,
    name: str,
    table: pd.DataFrame,
    names: Iterable[str],
    judged: pd.DataFrame | None,
) -> list[Section]:
    """Return the sections of an experiment: its numbers; before them its audit, behind them its checks."""
    summary = summary_of(results, name, table)
    drawn = _pictures(results / "figures", name, names)
    audit = [] if judged is None else [_audit(name, judged, drawn.pop("audit", None))]
    section = Section(
        id=f"experiment-{name}",
        title=f"Experiment {name}",
        text=[_uncertainty(summary)],
        explorer=explorer(summary, TITLES),
        pictures=[*drawn.values()],
    )
    report = results / f"checks/{name}.json"
    return [*audit, section, *([_checks(name, report)] if report.is_file() else [])]


def _audit(name: str, judged: pd.DataFrame, drawn: Picture | None) -> Section:
    return Section(
        id=f"audit-{name}",
        title=f"Audit of {name}",
        text=[
            "Each gain is that under attacks that look at one draw of the noise a gradient → that under the "
            "competent attacker, the worst of all attacks on each image, with its 95% interval, and the "
            "verdict. docs/audit.md explains both attackers and the verdicts."
        ],
        grids=[
            grid("Gains in accuracy, and what is left of them", remainders(judged), folded=False)
        ],
        pictures=[drawn] if drawn else [],
    )


def _uncertainty(summary: pd.DataFrame) -> str:
    """Say what the intervals of an experiment are."""
    trials = sorted({int(number) for number in summary["trials"]})
    counted = " or ".join(map(str, trials)) + (" trial" if trials == [1] else " trials")
    images = " or ".join(f"{int(number):,}" for number in sorted(summary["n"].unique()))
    told = f"Each cell is the mean of {counted} on {images} test images."
    if summary["accuracy_low"].isna().all():
        return f"{told} No intervals were computed."
    what = " or ".join(sorted(set(summary["resampled"]) - {""}))
    return f"{told} Intervals are 95%, from resampling {what}."


def _checks(name: str, report: Path) -> Section:
    verdicts = read_json(report)
    columns = ["verdict", "check", "value", "bound", "note"]
    rows = [[_text(check[column]) for column in columns] for check in verdicts]
    cells = read_table(report.with_name(f"{name}_cells.parquet"))
    compared = {
        kind: own.dropna(axis=1, how="all").drop(columns="check")
        for kind, own in cells.groupby("check", sort=False)
        if "published" in own
    }
    grids = [Grid("Checks and their verdicts", columns, rows)]
    grids += [grid(f"Every {_KINDS[str(kind)]}", own) for kind, own in compared.items()]
    failed = sum(check["verdict"] == "FAIL" for check in verdicts)
    differ = sum(check["verdict"] == "differs" for check in verdicts)
    counted = "1 check" if len(rows) == 1 else f"{len(rows)} checks"
    text = f"{counted}: {failed} failed, {differ} differ where agreement was not required."
    return Section(
        id=f"checks-{name}",
        title=f"Checks of {name}" + (", and the published numbers" if compared else ""),
        text=[text],
        plot=agreement_plot(compared) if compared else None,
        plot_title="Measured against published accuracy, a point a cell; on the line both are equal",
        grids=grids,
    )


_KINDS = {"published": "cell of the published heatmap", "published_cells": "published cell"}
_NAMES = ["source", "target", "modification", "strength", "tau", "arm"]


def agreement_plot(compared: Mapping[Any, pd.DataFrame]) -> dict[str, Any]:
    """Return measured against published accuracies as a plotly figure, a trace each table."""
    line = go.Scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": "#767676", "dash": "dot"}, hoverinfo="skip"
    )
    traces = [_points(str(kind), cells) for kind, cells in compared.items()]
    figure = go.Figure([line, *traces], LAYOUT)
    figure.update_layout(
        showlegend=False, height=420, xaxis_title="published", yaxis_title="measured"
    )
    figure.update_xaxes(range=[0, 1], fixedrange=True)
    figure.update_yaxes(range=[0, 1], fixedrange=True)
    return as_json(figure)


def _points(kind: str, cells: pd.DataFrame) -> go.Scatter:
    named = [name for name in _NAMES if name in cells]
    # plotly reads hover text as HTML
    texts = [
        html.escape(", ".join(f"{name} {value}" for name, value in row.items()))
        for row in cells[named].to_dict("records")
    ]
    return go.Scatter(
        x=cells["published"].tolist(),
        y=cells["measured"].tolist(),
        mode="markers",
        text=texts,
        name=_KINDS[kind],
        marker={"color": "#0b5394", "size": 8, "opacity": 0.7},
        hovertemplate="%{text}<br>published %{x:.3f}, measured %{y:.3f}<extra></extra>",
    )


def grid(caption: str, table: pd.DataFrame, *, folded: bool = True) -> Grid:
    """Return a table as text, three decimals a number."""
    rows = [[_text(value) for value in row] for row in table.itertuples(index=False)]
    return Grid(caption, [str(name) for name in table.columns], rows, folded)


def _text(value: object) -> str:
    if value is None or value != value:  # NaN
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:.3f}".replace("-", "−") if isinstance(value, float) else str(value)


def _provenance(provenance: Mapping[str, Any]) -> Section:
    git, machine = provenance["git"], provenance["hardware"]
    edited = " (edited since)" if git["edited"] else ""
    jobs = sum(rule["jobs"] for rule in provenance["rules"].values())
    told = {
        "commit": f"{git['commit'] or 'not known'}{edited}",
        "seed": provenance["seed"],
        "SHA-256 of the study": provenance["study_sha256"],
        "computed on": ", ".join(
            f"{k}: {v} jobs" for k, v in provenance.get("devices", {}).items()
        ),
        "machine": f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB",
        "GPU": machine["gpu"] or "none",
        "system": machine["system"],
        "jobs": jobs,
        "time from first to last job": f"{provenance['wall_seconds']:,.0f} s",
        "versions": ", ".join(f"{k} {v}" for k, v in provenance["versions"].items()),
    }
    rows = [[name, str(value)] for name, value in told.items()]
    return Section(
        "provenance",
        "Provenance",
        grids=[Grid("Where the numbers come from", ["what", "value"], rows)],
    )


def _pictures(folder: Path, experiment: str = "", names: Iterable[str] = ()) -> dict[str, Picture]:
    """Return the figures of a folder by kind, of one experiment if it is named, but for heatmaps."""
    found = {}
    for path in sorted(folder.glob("*.png")):
        owner = max((n for n in names if path.stem.startswith(f"{n}_")), key=len, default="")
        kind = path.stem.removeprefix(f"{experiment}_")
        if owner == experiment and kind not in TITLES:
            found[kind] = Picture(path.read_bytes(), _title(kind, experiment))
    return found


def _title(kind: str, experiment: str) -> str:
    if not experiment:
        return f"One image of each class of {kind} under every modification"
    return f"{_FIGURES.get(kind, kind.replace('_', ' ').capitalize())}, experiment {experiment}"


_FIGURES = {
    "audit": "Accuracy by the attacker's effort and knowledge, and what is left of the gains",
    "strength": "Accuracy against the strength of the modification, by arm",
    "attack_transfer": "Accuracy under attacks against ε, by source",
    "fixed_strength": "Accuracy against the strength of the modification, by arm and source of one strength",
    "layer_sweep": "Accuracy against the layer that the noise is added to, by arm",
    "trace_sweep": "Accuracy against the trace scale of the noise, by arm",
    "adversarial_training": "Accuracy of adversarially trained networks and under noise",
    "input_noise": "Accuracy against the noise on the pixels",
    "learning_curve": "Training loss against epochs, by arm",
    "matched_accuracy": "Accuracy against the accuracy on clean validation images, by arm",
    "published_cells": "Measured and published accuracies",
    "published_heatmap": "The published heatmap, the measured one, and their difference",
}


def _examples(results: Path, networks: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Return by network an image, clean and modified, of each modification of its data set."""
    found = {}
    for name, network in networks.items():
        path = results / f"figures/modifications/{network['dataset']}.safetensors"
        if path.is_file():
            pairs = read_tensors(path, producer="plot_modifications")
            found[name] = {
                modification: [png_uri(png(image)) for image in pair]
                for modification, pair in pairs.items()
            }
    return found


def png(image: NDArray[np.uint8]) -> bytes:
    """Return an image (C, H, W) of bytes as PNG, grey or in colour."""
    from matplotlib.image import imsave

    written = io.BytesIO()
    pixels = image.transpose(1, 2, 0)
    imsave(written, pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels, format="png")
    return written.getvalue()


def png_uri(content: bytes) -> str:
    """Return a PNG file as an address."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _pretty(content: object) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
