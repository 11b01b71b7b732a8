"""What determines a trained model."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines the trained weights, up to the rounding of the machine.

    Args:
        seed: of the weights' start and of the texts.
        steps: updates.
        rows: packed rows of n_ctx tokens in one update.
        n_layers: transformer blocks.
        n_heads: attention heads a block.
        d_model: width of the residual.
        n_ctx: positions.
        learning_rate: the highest, reached after warm_up steps; a cosine takes it to a hundredth.
        warm_up: steps until then.
        weight_decay: of the blocks' matrices; biases, LayerNorms and embeddings have none.
        emphasis: what the words that a text determines count more than other words, all of the text together.
        std: standard deviation of the weights at the start.

    Raises:
        InputError: a size that is not positive, or a width that the heads do not divide.
    """

    seed: int = 0
    steps: int = 6500
    rows: int = 8
    n_layers: int = 4
    n_heads: int = 8
    d_model: int = 128
    n_ctx: int = 96
    learning_rate: float = 2e-3
    warm_up: int = 100
    weight_decay: float = 0.1
    emphasis: float = 20.0
    std: float = 0.06

    def __post_init__(self) -> None:
        # Imported late: it loads JAX, for which `weights-tools --help` need not wait.
        from gpt2jax.errors import InputError

        for name in ("steps", "rows", "n_layers", "n_heads", "d_model", "learning_rate", "emphasis", "std"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; give more than 0")
        if self.n_ctx < 2:
            raise InputError(f"n_ctx is {self.n_ctx}, and no token would have one before it; give 2 or more")
        if self.d_model % self.n_heads:
            raise InputError(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}; change one of them")

    def recipe(self) -> Recipe:
        """This recipe without what a command adds to it."""
        return Recipe(**{field.name: getattr(self, field.name) for field in fields(Recipe)})
