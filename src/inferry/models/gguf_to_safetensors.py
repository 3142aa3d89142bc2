"""A program for an environment that has transformers: a GGUF file becomes a folder with bfloat16 safetensors.

    python -I gguf_to_safetensors.py MODEL.gguf FOLDER

Inferry is not installed where this runs, so it uses nothing of it. Its last line on stdout is one JSON object: what
was made, or `error` with what can't be done. transformers reads the weights and the vocabulary; see its
documentation, "GGUF". The heavy modules are looked up at run time: Inferry's own environment does not have them.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

EXIT_REFUSED = 3


def main(argv: list[str]) -> int:
    source, folder = Path(argv[1]), Path(argv[2])
    try:
        made = convert(source, folder)
    except (ImportError, NotImplementedError, RuntimeError, TypeError, ValueError, KeyError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        sys.stdout.write(json.dumps({"error": said}) + "\n")
        return EXIT_REFUSED
    sys.stdout.write(json.dumps(made) + "\n")
    return 0


def convert(source: Path, folder: Path) -> dict[str, Any]:
    """Writes the model below `folder`; says how many parameters it has and what kind of model it is."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    place: dict[str, Any] = {
        "pretrained_model_name_or_path": str(source.parent),
        "gguf_file": source.name,
        "local_files_only": True,
    }
    model = transformers.AutoModelForCausalLM.from_pretrained(
        **place, dtype=torch.bfloat16, quantization_config=transformers.GgufConfig(dequantize=True)
    )
    # What is saved is an ordinary model, and must not say otherwise; 5.23 has taken the first away itself.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized = False
    model.hf_quantizer = None
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(**place).save_pretrained(folder)
    return {
        "architecture": model.config.model_type,
        "parameters": model.num_parameters(),
        "context_tokens": getattr(model.config, "max_position_embeddings", None),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv))
