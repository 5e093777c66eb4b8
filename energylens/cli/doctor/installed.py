"""What is installed: Python, the packages of the base, each extra, and whether the bundled model
runs."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from energylens import __version__
from energylens.cli.doctor.finding import Finding, State
from energylens.errors import install_command

_BASE = ("duckdb", "pyarrow", "polars", "numpy", "scipy", "textual")
_EXTRAS = {
    "models": (
        ("torch", "transformers", "transformer-lens", "sae-lens", "datasets"),
        "making stores, training, and whatever runs a model: demo, ingest, train, prompt, "
        "intervene, attribute, steer, causality, repair, efas, routing, heads, recompute, worker, "
        "and the tables that index reads off weights",
    ),
    "gguf": (("gguf",), "quantised models: --model FILE.gguf"),
    "report": (
        ("matplotlib",),
        "report: the figures of a run as a page; in the screens, figures as SVG and PNG",
    ),
    "web": (("textual-serve", "aiohttp"), "tui --serve: the screens in a browser"),
    "mcp": (("mcp",), "mcp: a store as tools of a language model"),
}
"""The packages of each extra, and what it adds."""
_MODEL = "builtin:mesanet"
_MOST_NATS = 1e-4
"""The lens at the last layer and the model compute the same thing in another order."""


def look_at_installation() -> Iterator[Finding]:
    """The base, the extras, and, where models can be run, the bundled one."""
    page = "docs/install.md#installing"
    where = f"Python {platform.python_version()} on {platform.platform()}"
    yield Finding("installed", "energylens", State.ok, f"{__version__}, {where}", page)
    told = ", ".join(f"{package} {_version(package) or 'missing'}" for package in _BASE)
    yield Finding("installed", "packages", State.ok, told, page)
    extras = [_look_at_extra(extra) for extra in _EXTRAS]
    yield from extras
    if extras[0].state is State.ok:
        yield _try_model()


def _look_at_extra(extra: str) -> Finding:
    packages, adds = _EXTRAS[extra]
    page = "docs/install.md#extras"
    versions = {package: _version(package) for package in packages}
    missing = [package for package, found in versions.items() if found is None]
    if missing:
        told = f"{', '.join(missing)} not installed: the extra '{extra}' adds {adds}"
        return Finding("extras", extra, State.note, told, page, install_command(extra))
    told = ", ".join(f"{package} {found}" for package, found in versions.items())
    return Finding("extras", extra, State.ok, told, page)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _try_model() -> Finding:
    page = "docs/install.md#installing"
    anew = f"install it anew: {install_command('models')}"
    try:
        gap = _nats_apart()
    except Exception as error:  # of any package that is damaged or of another version
        told = f"{_MODEL} does not run: {type(error).__name__}: {error}"
        return Finding("extras", "bundled model", State.bad, told, page, anew)
    if not gap <= _MOST_NATS:
        told = f"the lens disagrees with {_MODEL} by {gap:.1e} nats"
        return Finding("extras", "bundled model", State.bad, told, page, anew)
    told = f"{_MODEL} runs; lens and model agree to {gap:.1e} nats"
    return Finding("extras", "bundled model", State.ok, told, page)


def _nats_apart() -> float:
    """The largest gap between the energies of the bundled model and those of the lens."""
    from energylens.lens.energy import lens_energies
    from energylens.lens.models import load_model, run_hooks

    import torch  # isort: skip

    model = load_model(_MODEL)
    ids = torch.tensor([model.tokenizer.encode("The energy of a token is its surprise.")])
    last = model.resid_post(model.n_layers - 1)
    logits, cache = run_hooks(model, ids, torch.ones_like(ids), [last])
    assert logits is not None, "the pass was not stopped early"
    found = lens_energies(model.readout, cache[last][0, :-1], ids[0, 1:]).energy
    direct = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none")
    return float((found - direct).abs().max())
