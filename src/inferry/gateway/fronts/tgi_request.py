"""TGI's requests (/generate, /generate_stream, POST /) in the words of /v1/completions.

Built from TGI 3.3's router (GenerateRequest, GenerateParameters and their validation). What has no counterpart that
all engines keep is refused by name, never dropped.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from inferry.core.errors import InvalidRequest
from inferry.core.request import COMPLETIONS
from inferry.gateway.fronts.front import Asked, Models, Moments
from inferry.gateway.fronts.outer_body import reader, refuse_others
from inferry.gateway.fronts.tgi_answer import TgiWriter

NEW_TOKENS = 100
"""TGI's `max_new_tokens` where the request says nothing of it."""

_Positive = Annotated[int, Meta(ge=1)] | None
_Above0 = Annotated[float, Meta(gt=0)] | None


class Grammar(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["json", "json_schema", "regex"]
    value: Raw


class GenerateParameters(msgspec.Struct, forbid_unknown_fields=True):
    do_sample: bool | None = None
    temperature: _Above0 = None
    top_k: _Positive = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    repetition_penalty: _Above0 = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    max_new_tokens: _Positive | UnsetType = UNSET
    stop: list[str] | None = None
    seed: Annotated[int, Meta(ge=0)] | None = None
    return_full_text: bool | None = None
    details: bool | None = None
    grammar: Grammar | None = None
    adapter_id: str | None = None
    """A LoRA adapter of TGI's; here, whichever deployment serves it."""
    # Refused unless they ask for nothing:
    typical_p: float | None = None
    truncate: int | None = None
    best_of: int | None = None
    watermark: bool | None = None
    decoder_input_details: bool | None = None
    top_n_tokens: int | None = None


class Generate(msgspec.Struct, forbid_unknown_fields=True):
    inputs: Annotated[str, Meta(min_length=1)]
    parameters: GenerateParameters | None = None
    stream: bool | None = None
    """Looked at by POST / only, as in TGI."""
    model: str | None = None
    """Of ours: TGI serves one model, and asks for none."""
    options: Raw | UnsetType = UNSET
    """Hints for Hugging Face's hosted API (`use_cache`, `wait_for_model`): ignored, as TGI does."""


REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "typical_p": ((1.0,), "few engines know typical sampling. Use top_p."),
    "truncate": ((), "the gateway does not cut prompts. Shorten 'inputs'."),
    "best_of": ((1,), "answers are not ranked. Leave it out, or ask several times."),
    "watermark": ((False,), "no engine but TGI marks its texts."),
    "decoder_input_details": ((False,), "engines don't tell the prompt's tokens."),
    "top_n_tokens": ((0,), "ask /v1/completions with 'logprobs' instead."),
}
"""Name: (values that ask for nothing, why it is refused)."""

_read = reader(Generate, {"parameters": GenerateParameters, "parameters.grammar": Grammar})
_encode = msgspec.json.encode
_SCHEMA_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
"""https://json-schema.org/draft/2020-12/json-schema-validation, 6.1.1."""
# What a request without any `parameters` means in TGI: it samples then, and does not if there are some.
_NO_PARAMETERS = GenerateParameters(do_sample=True)


def generate(body: bytes, models: Models, moments: Moments) -> Asked:
    """POST /generate: one whole answer."""
    return _asked(_read(body, models), models, stream=False)


def generate_stream(body: bytes, models: Models, moments: Moments) -> Asked:
    """POST /generate_stream."""
    return _asked(_read(body, models), models, stream=True)


def compat_generate(body: bytes, models: Models, moments: Moments) -> Asked:
    """POST /: streams if `stream` says so; a whole answer comes in a list, and repeats its prompt by default."""
    request = _read(body, models)
    return _asked(request, models, stream=bool(request.stream), is_compat=True)


def _asked(request: Generate, models: Models, *, stream: bool, is_compat: bool = False) -> Asked:
    parameters = request.parameters or _NO_PARAMETERS
    for name, (neutral, why) in REFUSED.items():
        refuse_others(getattr(parameters, name), f"parameters.{name}", neutral, why)
    named = request.model or parameters.adapter_id
    fields: dict[str, Any] = {
        "model": models.chosen(COMPLETIONS) if named is None else named,
        "prompt": request.inputs,
        **_sampling(parameters),
        **_bounds(parameters),
    }
    if parameters.grammar is not None:
        fields |= _grammar(parameters.grammar)
    if stream:
        fields["stream"] = True
    full = parameters.return_full_text
    writer = TgiWriter(
        stream=stream,
        prompt=request.inputs if (is_compat if full is None else full) else "",
        details=bool(parameters.details),
        seed=parameters.seed,
        in_list=is_compat,
    )
    return Asked(COMPLETIONS, _encode(fields), writer)


def _sampling(parameters: GenerateParameters) -> dict[str, Any]:
    """TGI samples if it is told to, or if anything that only matters then is not at its neutral value."""
    temperature = 1.0 if parameters.temperature is None else parameters.temperature
    samples = (
        parameters.do_sample
        or temperature != 1.0
        or parameters.top_k is not None
        or parameters.top_p not in (None, 1.0)
    )
    fields: dict[str, Any] = {"temperature": temperature if samples else 0.0}
    for name in ("top_k", "top_p", "seed", "frequency_penalty"):
        if (value := getattr(parameters, name)) is not None:
            fields[name] = value
    if parameters.repetition_penalty is not None:
        # vLLM's and SGLang's name, and llama.cpp's; each reads its own.
        fields["repetition_penalty"] = fields["repeat_penalty"] = parameters.repetition_penalty
    return fields


def _bounds(parameters: GenerateParameters) -> dict[str, Any]:
    length = parameters.max_new_tokens
    # null is "as many as fit", for TGI and for the engines; left out would be 16 tokens at some of these.
    fields: dict[str, Any] = {"max_tokens": NEW_TOKENS if length is UNSET else length}
    if parameters.stop:
        fields["stop"] = parameters.stop
    return fields


def _grammar(grammar: Grammar) -> dict[str, Any]:
    if grammar.type == "regex":
        raise InvalidRequest(
            "'parameters.grammar' of type 'regex' is not supported here: engines agree on JSON schemas only. "
            "Use type 'json'.",
            param="parameters.grammar",
        )
    try:
        schema = msgspec.json.decode(grammar.value)
        if isinstance(schema, str):
            schema = msgspec.json.decode(schema)
        if isinstance(schema, dict) and grammar.type == "json_schema":
            schema = schema.get("schema", schema)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        schema = None
    if not isinstance(schema, dict):
        raise InvalidRequest(
            "Invalid value for 'parameters.grammar.value': expected a JSON schema as an object.",
            param="parameters.grammar.value",
        )
    refuse_no_schema(schema, "parameters.grammar.value")
    return json_schema_fields(schema)


def refuse_no_schema(schema: dict[str, Any], where: str) -> None:
    """Raises InvalidRequest for a `type` that JSON Schema does not have: some engines ignore such a schema."""
    kinds = schema.get("type", "object")
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if not isinstance(kind, str) or kind not in _SCHEMA_TYPES:
            shown = _encode(kind).decode()
            raise InvalidRequest(
                f"Invalid value for '{where}.type': {shown if len(shown) <= 60 else shown[:57] + '...'} is no type of "
                f"JSON Schema. Say one of {', '.join(_SCHEMA_TYPES)}, or leave it out.",
                param=f"{where}.type",
            )


def json_schema_fields(schema: dict[str, Any]) -> dict[str, Any]:
    """What asks engines for an answer by a schema on /v1/completions: vLLM's and SGLang's name, and llama.cpp's."""
    described = {"name": "answer", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": described}, "json_schema": schema}
