"""LoRA adapters, while engines run: the part of the control API behind `inferry lora`."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from inferry.fleet.lora import LiveLora


class LoraRequest(BaseModel):
    name: str
    path: str = Field(description="A folder with adapter_config.json, as the engines see it.")


class LoraAnswer(BaseModel):
    deployment: str
    name: str
    replicas: list[str] = Field(description="Those that have loaded or dropped it.")


class LoraView(BaseModel):
    deployment: str
    name: str
    path: str
    model: str | None = Field(
        description="What clients send as `model`; null: its engine has no name for one."
    )
    from_file: bool
    missing: dict[str, str] = Field(
        description="Replicas that serve without it, each with its engine's reason."
    )


def make_lora_router(lora: LiveLora) -> APIRouter:
    """Errors are LifecycleRefused and UnknownReplica."""
    router = APIRouter()

    @router.get("/lora")
    async def get_lora() -> list[LoraView]:
        return [
            LoraView(
                deployment=each.deployment,
                name=each.name,
                path=each.path,
                model=each.model,
                from_file=each.from_file,
                missing=dict(each.missing),
            )
            for each in lora.adapters()
        ]

    @router.post("/deployments/{deployment}/lora")
    async def post_lora(deployment: str, request: LoraRequest) -> LoraAnswer:
        replicas = await lora.load(deployment, request.name, request.path)
        return LoraAnswer(deployment=deployment, name=request.name, replicas=replicas)

    @router.delete("/deployments/{deployment}/lora/{name}")
    async def delete_lora(deployment: str, name: str) -> LoraAnswer:
        replicas = await lora.unload(deployment, name)
        return LoraAnswer(deployment=deployment, name=name, replicas=replicas)

    return router
