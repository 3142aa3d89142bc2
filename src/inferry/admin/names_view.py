"""Names over several deployments, as programs and people see them: who shall get how much, and who got what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, Field

from inferry.core.public_names import PublicName
from inferry.gateway.snapshot import Snapshot


class NamePlace(BaseModel):
    """One deployment behind a name."""

    deployment: str
    role: str = Field(description="split, fallback or shadow.")
    percent: float | None = Field(description="Its share; of a shadow, of the requests that are copied.")
    requests: int | None = Field(
        description="Requests for the name that ended there, since this gateway started. Shadows: null; their own "
        "outcomes have the tenant 'shadow'."
    )
    left: int | None = Field(description="Requests that left it for a fallback.")


class NameStatus(BaseModel):
    name: str
    sticky: str
    places: list[NamePlace] = Field(description="The split, then fallbacks that are not in it, then shadows.")


def view_names(names: Mapping[str, PublicName], snapshot: Snapshot) -> list[NameStatus]:
    """All names of the file, with the counts of all gateway processes."""
    return [
        NameStatus(name=name, sticky=public.sticky, places=list(_places(name, public, snapshot)))
        for name, public in names.items()
    ]


def _places(name: str, public: PublicName, snapshot: Snapshot) -> Iterable[NamePlace]:
    metrics = snapshot.metrics
    left: dict[str, int] = {}
    for (of, deployment, _), count in metrics.fallbacks.items():
        if of == name:
            left[deployment] = left.get(deployment, 0) + count

    def place(deployment: str, role: str, percent: float | None) -> NamePlace:
        return NamePlace(
            deployment=deployment,
            role=role,
            percent=percent,
            requests=metrics.named.get((name, deployment), 0),
            left=left.get(deployment, 0),
        )

    whole = sum(each.weight for each in public.split)
    for each in public.split:
        yield place(each.deployment, "split", round(100 * each.weight / whole, 2))
    for deployment in public.fallbacks:
        if deployment not in public.members:
            yield place(deployment, "fallback", None)
    for shadow in public.shadow:
        yield NamePlace(
            deployment=shadow.deployment, role="shadow", percent=shadow.percent, requests=None, left=None
        )
