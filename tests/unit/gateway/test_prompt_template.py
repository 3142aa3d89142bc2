"""Chats rendered by templates as models have them."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.core.errors import ConfigError

pytest.importorskip("jinja2", reason="needs the 'prompt-truth' extra")

from inferry.gateway.prompt_template import PromptTemplate, TemplateRefuses

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def template(source: str) -> PromptTemplate:
    return PromptTemplate(source, SPECIAL, lambda layout: layout.replace("%d %b %Y", "01 Jan 2026"))


def test_chatml() -> None:
    """The default system prompt and the generation prompt are there; parts of a message become one text."""
    assert template(CHATML).render([user("Hi")], None, {}) == (
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    own_system = [{"role": "system", "content": "S"}, user(parts)]
    assert template(CHATML).render(own_system, None, {}, add_generation_prompt=False) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n"
    )


def test_llama_3() -> None:
    """Its BOS, its date, tools as JSON without escapes for HTML, and a call's arguments as an object."""
    chat = [
        user(" Hi "),
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "f", "arguments": {"a": "<b>"}}}],
        },
    ]
    assert template(LLAMA3).render(chat, [{"n": "é"}], {}) == (
        "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 01 Jan 2026\n\n"
        '{\n    "n": "é"\n}\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>'
        '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "f", "parameters": {"a": "<b>"}}<|eot_id|>'
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert "Today Date: 2 May" in template(LLAMA3).render([user("Hi")], None, {"date_string": "2 May"})
    assert template(LLAMA3).reads_tools
    assert not template(CHATML).reads_tools


def test_mistral() -> None:
    """BOS once, EOS after each answer, and a refusal of roles that don't alternate."""
    text = template(MISTRAL).render([user("a"), assistant("b"), user("c")], None, {})
    assert text == "<s>[INST] a [/INST]b</s>[INST] c [/INST]"
    with pytest.raises(TemplateRefuses, match="alternate"):
        template(MISTRAL).render([user("a"), user("b")], None, {})


def test_a_template_that_reads_parts_gets_them() -> None:
    """Templates of models that see pictures walk over the parts by themselves."""
    source = "{% for m in messages %}{% for part in m['content'] %}[{{ part.text }}]{% endfor %}{% endfor %}"
    assert template(source).render([user([{"type": "text", "text": "a"}])], None, {}) == "[a]"


def test_training_marks_and_loop_controls() -> None:
    """What transformers adds to Jinja is known here too."""
    source = (
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}"
    )
    assert template(source).render([user("a"), user("b")], None, {}) == "a"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content.nothing.at.all }}",
        "{{ 'a' + messages }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ range(10**9) | list }}",
        "{{ 1 // 0 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_a_template_can_do_no_harm(source: str) -> None:
    """Faults of a template, and its attempts to leave the sandbox, are one kind of refusal."""
    with pytest.raises(TemplateRefuses):
        template(source).render([user("a")], None, {})


def test_what_is_no_template() -> None:
    """Text that is no Jinja is the operator's error."""
    with pytest.raises(ConfigError, match="no Jinja template"):
        template("{% for %}")
