"""Families of circuits, each drawn into the same shape of model.

Features of every token: which it is and where it stands (one-hot), and `REST`, a number that is always there. Heads
write further features into channels. Every head that looks for something is drawn to the first token a little, where
it rests if it finds nothing, and repelled from all tokens alike: as in trained models, positive products overshoot
the score, and slices end. Planted heads of a later layer read what those below wrote among everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gpt2jax.config import GPT2Config
from svdtrace.prompts.prompt import Prompt
from svdtrace.truth.circuits import Circuit, Wire
from svdtrace.truth.drawing import Drawing, Head

N_TOKENS, N_POSITIONS, N_FEATURES = 8, 8, 48
CONFIG = GPT2Config(n_layers=5, n_heads=4, d_model=2 * N_FEATURES, d_mlp=48, n_ctx=N_POSITIONS, d_vocab=N_TOKENS)
_FEATURES = np.eye(N_FEATURES)
TOKEN, POSITION, REST = _FEATURES[:8], _FEATURES[8:16], _FEATURES[16]
WORDS = TOKEN[1:]
"""All tokens but that at the start."""
CHANNELS = tuple(_FEATURES[start : start + len(WORDS)] for start in (17, 24, 31, 38))
EMBEDDING, PLACE = TOKEN, POSITION + 6 * REST
SIGNAL = 2.0
"""What a planted head writes of a feature."""
SCALES = (float(np.sqrt((2 + 36 + SIGNAL**2) / N_FEATURES + CONFIG.layer_norm_epsilon)),) * CONFIG.n_layers
SCORE, REPELLED, RESTING, ANSWER = 72.0, 10.0, 24.0, 5.0
"""q·k of what a head looks for, of what it shuns everywhere, of the first token; what a last head writes."""
N_PROMPTS = 16


def induction(drawing: Drawing, rng: np.random.Generator) -> Circuit:
    """1.0 writes which token came before; 4.0 looks from a token to where that came before."""
    _steps_back(drawing, (1, 0), 1)
    drawing.moves((1, 0), WORDS, SIGNAL * CHANNELS[0])
    _completes(drawing, (4, 0), CHANNELS[0] / SIGNAL)
    wires = (_query("4.0", "end", "B"), Wire("1.0", "4.0", "src", "end", "B"), *_places("1.0", "B", "A"))
    return Circuit(wires, "4.0@end:B", _repetitions(rng))


def chain(drawing: Drawing, rng: np.random.Generator) -> Circuit:
    """Four hops: 0.0 writes which token came before; from 1.0 on each head finds the token after the one found last."""
    _steps_back(drawing, (0, 0), 1)
    drawing.moves((0, 0), WORDS, SIGNAL * CHANNELS[0])
    wires = [_query("1.0", "end", "x2")]
    for layer in range(1, CONFIG.n_layers):
        head, name, found = (layer, 0), f"{layer}.0", f"x{layer + 1}"
        wanted = WORDS if layer == 1 else CHANNELS[layer - 1] / SIGNAL
        _looks(drawing, head, wanted, CHANNELS[0] / SIGNAL)
        last = layer == CONFIG.n_layers - 1
        drawing.moves(head, WORDS, ANSWER * WORDS if last else SIGNAL * CHANNELS[layer])
        wires.append(Wire("0.0", name, "src", "end", found))
        if layer > 1:
            wires.append(Wire(f"{layer - 1}.0", name, "dest", "end", found))
    return Circuit(tuple(wires), "4.0@end:x5", _sequences(rng))


def inhibition(drawing: Drawing, rng: np.random.Generator) -> Circuit:
    """4.0 moves the name that does not occur twice.

    1.0 finds that a name has occurred and writes which; 3.0 reads that it has, and writes at the end which name it is;
    1.1 writes of every name that it is one. 4.0 looks for names (it reads the last token) that are not 3.0's: both
    halves of its query, and its key, are signals. Names come in two pairs; a prompt has both of one.
    """
    names = TOKEN[1:5]
    duplicate, unwanted, name = (channel[:4] for channel in CHANNELS[:3])
    end = TOKEN[7:]
    _looks(drawing, (1, 0), names, names)
    drawing.looks((1, 0), POSITION, POSITION, np.full(len(POSITION), -1.5 * SCORE))
    drawing.moves((1, 0), names, SIGNAL * duplicate)
    _steps_back(drawing, (1, 1), 0)
    drawing.moves((1, 1), names, SIGNAL * name)
    _looks(drawing, (3, 0), end, duplicate.sum(axis=0, keepdims=True) / SIGNAL)
    drawing.moves((3, 0), duplicate / SIGNAL, SIGNAL * unwanted)
    pairs = np.array([[1, -1, 0, 0], [0, 0, 1, -1]]) / SIGNAL
    wanted = np.concatenate([end, -pairs @ unwanted])
    there = np.concatenate([name.sum(axis=0, keepdims=True) / SIGNAL, pairs @ name])
    _looks(drawing, (4, 0), wanted, there, SCORE / 2)
    drawing.moves((4, 0), names, ANSWER * names)
    wires = (
        *(_query("4.0", "end", "IO"), Wire("3.0", "4.0", "dest", "end", "IO"), Wire("1.1", "4.0", "src", "end", "IO")),
        *(_query("3.0", "end", "S2"), Wire("1.0", "3.0", "src", "end", "S2")),
        *(_query("1.0", "S2", "S1"), Wire("embed", "1.0", "src", "S2", "S1")),
        *_places("1.1", "IO", "IO"),
    )
    return Circuit(wires, "4.0@end:IO", _names(rng))


def redundant(drawing: Drawing, rng: np.random.Generator) -> Circuit:
    """Induction whose signal five heads of three layers write, each a fifth of it but for a few per cent."""
    amounts = {(1, 0): 1.04, (1, 1): 1.02, (2, 0): 1.0, (2, 1): 0.98, (3, 0): 0.96}
    wires = [_query("4.0", "end", "B")]
    for head, amount in amounts.items():
        _steps_back(drawing, head, 1)
        drawing.moves(head, WORDS, amount / len(amounts) * SIGNAL * CHANNELS[0])
        name = f"{head[0]}.{head[1]}"
        wires += [Wire(name, "4.0", "src", "end", "B", amount), *_places(name, "B", "A")]
    _completes(drawing, (4, 0), CHANNELS[0] / SIGNAL)
    return Circuit(tuple(wires), "4.0@end:B", _repetitions(rng))


def decoys(drawing: Drawing, rng: np.random.Generator) -> Circuit:
    """Induction beside 1.2 and 3.1, which write more than 1.0, of what 4.0 reads, but never of what it looks for.

    At each token they write into 1.0's channel another token: the one after it in the vocabulary. Prompts lack the
    token before the repeated one.
    """
    _steps_back(drawing, (1, 0), 1)
    drawing.moves((1, 0), WORDS, SIGNAL * CHANNELS[0])
    wires = [_query("4.0", "end", "B"), Wire("1.0", "4.0", "src", "end", "B"), *_places("1.0", "B", "A")]
    for head in ((1, 2), (3, 1)):
        _steps_back(drawing, head, 0)
        drawing.moves(head, WORDS, 1.5 * SIGNAL * np.roll(CHANNELS[0], -1, axis=0))
        wires.append(Wire(f"{head[0]}.{head[1]}", "4.0", "src", "end", "B", 0.0))
    _completes(drawing, (4, 0), CHANNELS[0] / SIGNAL)
    return Circuit(tuple(wires), "4.0@end:B", _repetitions(rng, lacking=-1))


def superposition(drawing: Drawing, rng: np.random.Generator) -> Circuit:
    """Two signals in shared dimensions, at an angle of 60° to each other, of seven tokens in six dimensions each.

    1.0 writes the token before, a_n, and 1.1 the one before that, b_n = cos 60° a_n + sin 60° c_n, where a and c are
    corners of regular simplices, hence at no right angles. 4.0 looks for the token after, and reads what is orthogonal
    to all b_n, a_n − cot 60° c_n; 4.1 looks for the second after, reads c_n / sin 60°, orthogonal to all a_n, and
    makes what it finds less likely.
    """
    n, cos, sin = len(WORDS), 0.5, np.sqrt(0.75)
    corners = np.linalg.svd(np.eye(n) - 1 / n)[0][:, :-1] * np.sqrt(n / (n - 1))
    first, second = (corners @ channel[:-1] for channel in CHANNELS[:2])
    wires = []
    for head, reader, role, written, there, answer in (
        ((1, 0), (4, 0), "B", first, first - cos / sin * second, ANSWER),
        ((1, 1), (4, 1), "C", cos * first + sin * second, second / sin, -ANSWER),
    ):
        name, reads = f"{head[0]}.{head[1]}", f"{reader[0]}.{reader[1]}"
        _steps_back(drawing, head, head[1] + 1)
        drawing.moves(head, WORDS, SIGNAL * written)
        _completes(drawing, reader, there / SIGNAL, answer)
        wires += [_query(reads, "end", role), Wire(name, reads, "src", "end", role), *_places(name, role, "A")]
    return Circuit(tuple(wires), "4.0@end:B,4.1@end:C", _repetitions(rng, distractor="C"))


FAMILIES: dict[str, Callable[[Drawing, np.random.Generator], Circuit]] = {
    each.__name__: each for each in (induction, chain, inhibition, redundant, decoys, superposition)
}


def _looks(drawing: Drawing, head: Head, wanted: np.ndarray, there: np.ndarray, score: float = SCORE) -> None:
    drawing.looks(head, wanted, there, score * (1 + 0.05 * np.arange(len(wanted))))
    drawing.leans(head, RESTING * POSITION[0] - REPELLED / 6 * REST)


def _steps_back(drawing: Drawing, head: Head, steps: int) -> None:
    """Let a head look so many positions back."""
    _looks(drawing, head, POSITION[steps:], POSITION[: N_POSITIONS - steps])


def _completes(drawing: Drawing, head: Head, there: np.ndarray, answer: float = ANSWER) -> None:
    """Let a head look from a token to where `there` says the same token, and write the answer that it finds."""
    _looks(drawing, head, WORDS, there)
    drawing.moves(head, WORDS, answer * WORDS)


def _query(reader: str, i: str, j: str) -> Wire:
    return Wire("embed", reader, "dest", i, j)


def _places(reader: str, i: str, j: str) -> tuple[Wire, Wire]:
    return Wire("pos", reader, "dest", i, j), Wire("pos", reader, "src", i, j)


def _prompt(tokens: Sequence[int], roles: dict[str, int], answer: str, distractor: int) -> Prompt:
    return Prompt(
        None, tuple(tokens), tuple(map(str, tokens)), roles, answer=tokens[roles[answer]], distractor=distractor
    )


def _repetitions(
    rng: np.random.Generator, lacking: int | None = None, distractor: str | None = None
) -> tuple[Prompt, ...]:
    """The start, six different words, then one of the first four of them again.

    Args:
        lacking: how far from the repeated word that which does not occur is, around the vocabulary.
        distractor: its role; by default the first word that has none.
    """
    found: list[Prompt] = []
    while len(found) < N_PROMPTS:
        words = 1 + rng.permutation(N_TOKENS - 1)
        A = int(rng.integers(1, 5))
        if lacking is not None and (words[A - 1] - 1 + lacking) % (N_TOKENS - 1) != words[-1] - 1:
            continue
        tokens = [0, *map(int, words[:6]), int(words[A - 1])]
        roles = {"A": A, "B": A + 1, "C": A + 2, "end": 7}
        others = [word for word in tokens[1:7] if word not in tokens[A : A + 3]]
        found.append(_prompt(tokens, roles, "B", tokens[roles[distractor]] if distractor else others[0]))
    return tuple(found)


def _sequences(rng: np.random.Generator) -> tuple[Prompt, ...]:
    """The start, six different words, then the first or second of them again."""
    found = []
    for _ in range(N_PROMPTS):
        words, first = [0, *map(int, 1 + rng.permutation(N_TOKENS - 1)[:6])], int(rng.integers(1, 3))
        roles = {f"x{n + 1}": first + n for n in range(5)} | {"end": 7}
        found.append(_prompt([*words, words[first]], roles, "x5", words[first + 1]))
    return tuple(found)


def _names(rng: np.random.Generator) -> tuple[Prompt, ...]:
    """The start, two names of a pair, one of them again, other words in between, the last token."""
    found = []
    for _ in range(N_PROMPTS):
        tokens = [0, *map(int, rng.integers(5, 7, 6)), 7]
        places = [int(place) for place in 1 + np.sort(rng.permutation(6)[:3])]
        io, s1 = (places[int(at)] for at in rng.permutation(2))
        pair = [int(word) for word in 1 + 2 * rng.integers(2) + rng.permutation(2)]
        tokens[io], tokens[s1], tokens[places[2]] = pair[0], pair[1], pair[1]
        found.append(_prompt(tokens, {"IO": io, "S1": s1, "S2": places[2], "end": 7}, "IO", pair[1]))
    return tuple(found)
