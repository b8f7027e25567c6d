"""A row of the atlas: the rotary settings of one released family, the source of each number, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from torch import Tensor

from rope_lab import encodings
from rope_lab.atlas.spectrum import Spectrum
from rope_lab.checks import check_integers, check_positive
from rope_lab.encodings import (
    DynamicNTK,
    Layout,
    Llama3,
    LongRoPE,
    PositionInterpolation,
    PRoPE,
    RotaryEmbedding,
    Scaling,
    YaRN,
)

KINDS = ("class", "code", "file", "text", "paper")


@dataclass(frozen=True)
class Source:
    """Where a number is from.

    Args:
        kind: "class", the default of a config class of transformers 5.23, which a test compares and from which a
            checkpoint may differ; "code", a constant in a model's code; "file", settings of the release as another
            public repository keeps them; "text", a report or model card; "paper".
        where: the class, the repository with path and commit, or the arXiv number.
    """

    kind: str
    where: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {self.kind!r}")

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}"


@dataclass(frozen=True)
class Rotation:
    """What the attention layers of one kind turn.

    Args:
        base: θ_i = base^(−2i/rotated) before any scaling.
        head_dim: coordinates of a head of queries and keys.
        rotated: how many of them turn; None for all.
        scaling: of the frequencies.

    Raises:
        ValueError: if a number is not positive, or `rotated` is odd or above `head_dim`.
    """

    base: float
    head_dim: int
    rotated: int | None = None
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        check_positive(base=self.base)
        check_integers(head_dim=self.head_dim)
        if self.dim % 2 or not 0 < self.dim <= self.head_dim:
            raise ValueError(f"rotated must be even and at most head_dim={self.head_dim}, got {self.rotated}")

    @property
    def dim(self) -> int:
        """Coordinates that the frequencies are spread over."""
        return self.head_dim if self.rotated is None else self.rotated

    def frequencies(self, length: int = 1) -> tuple[Tensor, float]:
        """θ_i after scaling, float64, (dim/2,), in a sequence of `length` tokens; and the attention factor."""
        freqs = encodings.frequencies(self.dim, self.base)
        return (freqs, 1.0) if self.scaling is None else self.scaling(freqs, length)

    def rope_parameters(self) -> dict[str, Any]:
        """The same settings as transformers 5 writes them into a config.

        Raises:
            ValueError: if the scaling has no name there.
        """
        parameters: dict[str, Any] = {"rope_theta": float(self.base)} | scaling_parameters(self.scaling)
        if self.rotated is not None:
            parameters["partial_rotary_factor"] = self.rotated / self.head_dim
        return parameters


def scaling_parameters(scaling: Scaling | None) -> dict[str, Any]:
    """A scaling under the names of transformers 5; see `Rotation.rope_parameters`."""
    if scaling is None:
        return {"rope_type": "default"}
    if isinstance(scaling, PositionInterpolation):
        return {"rope_type": "linear", "factor": scaling.factor}
    if isinstance(scaling, PRoPE):
        return {"rope_type": "proportional", "partial_rotary_factor": scaling.p}
    if isinstance(scaling, DynamicNTK):
        return {"rope_type": "dynamic", "factor": scaling.factor}
    if isinstance(scaling, Llama3):
        names = ("factor", "low_freq_factor", "high_freq_factor")
        found = {name: float(getattr(scaling, name)) for name in names}
        return {
            "rope_type": "llama3",
            **found,
            "original_max_position_embeddings": scaling.original_length,
        }
    if isinstance(scaling, YaRN):
        found = {name: getattr(scaling, name) for name in _YARN if getattr(scaling, name) is not None}
        return {
            "rope_type": "yarn",
            **found,
            "original_max_position_embeddings": scaling.original_length,
        }
    if isinstance(scaling, LongRoPE):
        return {
            "rope_type": "longrope",
            "short_factor": list(scaling.short_factors),
            "long_factor": list(scaling.long_factors),
            "factor": float(scaling.factor),
            "original_max_position_embeddings": scaling.original_length,
        }
    raise ValueError(f"scaling must be one of rope_lab.encodings, got {scaling!r}")


_YARN = (*("factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "truncate"),)


@dataclass(frozen=True, kw_only=True)
class Family:
    """One released family, or the member of it that the source describes.

    Args:
        name, aliases: what `rope_lab.atlas.find` finds it by.
        year: of the release.
        source: of all numbers but those of `elsewhere`.
        elsewhere: pairs of a field and its own source.
        base, head_dim, rotated, scaling: as `Rotation`, for the layers of full attention if there are two kinds.
        layout: of the weights as transformers has them.
        context: tokens that the release is configured for; None where no source gives it.
        local: of the layers of sliding-window attention where their rotation differs.
        window: tokens that a query of a local layer sees, itself included.
        chunk: tokens of a block that local layers attend in, in place of a window.
        limited: whether every layer that turns has the window or chunk.
        without_rope: which attention layers do not turn anything.
        decoupled: whether the turned coordinates are apart from the others (multi-head latent attention): the last
            `rotated` of each head, and one key for all heads.
        axes: coordinates of a position; with three (M-RoPE) a text has three equal ones, which is RoPE on a line.
        backwards: whether it turns by −θ_i.
        model_type: of transformers; None if it has no such model.
        note: what the columns do not say.
    """

    name: str
    year: int
    source: Source
    base: float
    head_dim: int
    layout: Layout
    context: int | None
    model_type: str | None
    rotated: int | None = None
    scaling: Scaling | None = None
    aliases: tuple[str, ...] = ()
    elsewhere: tuple[tuple[str, Source], ...] = ()
    local: Rotation | None = None
    window: int | None = None
    chunk: int | None = None
    limited: bool = False
    without_rope: str = ""
    decoupled: bool = False
    axes: int = 1
    backwards: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        self.rotation()
        check_integers(
            optional=True, year=self.year, context=self.context, window=self.window, chunk=self.chunk
        )
        if self.layout not in get_args(Layout):
            raise ValueError(f"layout must be one of {get_args(Layout)}, got {self.layout!r}")
        if self.limited and self.sees is None:
            raise ValueError(f"limited must be False without a window or chunk, got True for {self.name}")
        fields = type(self).__dataclass_fields__
        for name, _ in self.elsewhere:
            if name not in fields or getattr(self, name) is None:
                raise ValueError(f"elsewhere must name fields that have a value, got {name!r}")

    def source_of(self, field: str) -> Source | None:
        """Where a field is from; None if the row does not have it."""
        return None if getattr(self, field) is None else dict(self.elsewhere).get(field, self.source)

    def rotation(self, *, local: bool = False) -> Rotation:
        """The rotation of the layers of full attention, or of the local ones.

        Raises:
            ValueError: if all layers turn alike and `local` is asked for.
        """
        if not local:
            return Rotation(self.base, self.head_dim, self.rotated, self.scaling)
        if self.local is None:
            raise ValueError(f"local must be False for {self.name}, whose layers all turn alike, got True")
        return self.local

    def rotary_embedding(self, *, local: bool = False, length: int | None = None) -> RotaryEmbedding:
        """The rotation of queries and keys, (B, H, N, head_dim), with its scaling.

        Of a family with decoupled coordinates it turns the last ones of each head, as its attention does.

        Args:
            local: that of the local layers.
            length: tokens the sequence may have in all, for scalings that depend on it.

        Raises:
            ValueError: as `rotation`.
        """
        rotation = self.rotation(local=local)
        freqs = -encodings.frequencies(rotation.dim, rotation.base) if self.backwards else None
        start = rotation.head_dim - rotation.dim if self.decoupled else 0
        return RotaryEmbedding(
            rotation.dim, base=rotation.base, layout=self.layout, scaling=rotation.scaling, freqs=freqs,
            start=start, length=length,
        )  # fmt: skip

    @cached_property
    def spectrum(self) -> Spectrum:
        """Frequencies at the full context, in the layers of full attention."""
        return self._spectrum(self.rotation())

    @cached_property
    def local_spectrum(self) -> Spectrum | None:
        """Frequencies in the local layers beside the window, which no distance exceeds; None if they are the same."""
        if self.local is None:
            return None
        return Spectrum(*_swap(self.local.frequencies(self.context or 1), self.window))

    def _spectrum(self, rotation: Rotation) -> Spectrum:
        return Spectrum(*_swap(rotation.frequencies(self.context or 1), self.context))

    @property
    def scaling_name(self) -> str:
        """The scaling in a few characters, such as "Llama3 ×8"; empty without one."""
        if self.scaling is None:
            return ""
        if isinstance(self.scaling, PRoPE):
            return f"p-RoPE {self.scaling.p:g}"
        kinds = {"PositionInterpolation": "linear", "DynamicNTK": "dynamic NTK"}
        kind = kinds.get(type(self.scaling).__name__, type(self.scaling).__name__)
        return f"{kind} ×{getattr(self.scaling, 'factor', 1):g}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to expect of precision and of the context, computed from the spectrum."""
        return self.spectrum.warnings(sees=self.sees)

    @property
    def sees(self) -> int | None:
        """Tokens that every layer that turns is limited to; None if one of them sees the whole context."""
        return (self.window or self.chunk) if self.limited else None


def _swap(found: tuple[Tensor, float], context: int | None) -> tuple[Tensor, int | None, float]:
    freqs, factor = found
    return freqs, context, factor
