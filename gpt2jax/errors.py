"""Errors of `gpt2jax`: one small hierarchy; every message ends with what to do."""


class GPT2JaxError(Exception):
    """Base of everything that `gpt2jax` raises on purpose."""


class ConfigError(GPT2JaxError):
    """A `config.json` that is unreadable, incomplete, or asks for what this GPT-2 does not compute."""


class CheckpointError(GPT2JaxError):
    """Weight files that are missing, damaged, or do not fit the configuration."""


class MissingTensorsError(CheckpointError):
    """Weight files that hold nothing wrong, but not all that was asked for."""


class TokenizerError(GPT2JaxError):
    """Tokenizer files that are unreadable, or a text that needs a tokenizer where there is none."""


class SourceError(GPT2JaxError):
    """A model folder or hub id that cannot be found or fetched."""


class OutputError(GPT2JaxError):
    """A folder that a model cannot be written to."""


class ActivationNameError(GPT2JaxError):
    """A tap or hook name that no activation bears."""


class InputError(GPT2JaxError):
    """An argument that the model cannot read: tokens, mask, positions, an unknown part."""


class ProcessingError(GPT2JaxError):
    """A request that contradicts how the weights were processed (`raw` or `folded`)."""
