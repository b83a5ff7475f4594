"""Long texts: overlapping windows, of which only the centre is kept.

    window k covers tokens  k stride ... k stride + size,        kept from  k stride + (size - stride) / 2
                                                                 to         (k + 1) stride + (size - stride) / 2

The first window also keeps its head and the last one its tail, so that every token is kept exactly once and, away from
the ends of the text, has at least (size - stride) / 2 tokens of context on both sides. The paper's numbers are size
456, stride 328 (Jia, Lewis, Zettlemoyer 2021, appendix). A text of at most ``size`` tokens is one window, as if there
were none.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, model_validator

from mlsim.settings import Settings


class WindowSettings(Settings):
    """Size and stride of the windows, in tokens without the special ones."""

    size: int = Field(default=456, ge=1)
    stride: int = Field(default=328, ge=1)

    @model_validator(mode="after")
    def _overlap(self) -> WindowSettings:
        if self.stride > self.size:
            raise ValueError(f"stride {self.stride} exceeds size {self.size}: tokens between windows would be lost")
        return self

    @classmethod
    def within(cls, longest: int) -> WindowSettings:
        """The paper's windows, scaled down if the encoder takes fewer than ``longest`` tokens."""
        size = min(cls().size, longest - 2)
        return cls(size=size, stride=max(size * 328 // 456, 1))


@dataclass(frozen=True)
class Window:
    """Tokens ``begin:end`` go through the encoder, tokens ``keep_begin:keep_end`` are taken from it."""

    begin: int
    end: int
    keep_begin: int
    keep_end: int


def windows(count: int, settings: WindowSettings) -> list[Window]:
    """Windows over ``count`` tokens (none for none)."""
    if count <= settings.size:
        return [Window(0, count, 0, count)] if count else []
    found: list[Window] = []
    margin = (settings.size - settings.stride) // 2
    begin = 0
    while True:
        end = min(begin + settings.size, count)
        keep_end = count if end == count else begin + settings.stride + margin
        found.append(Window(begin, end, found[-1].keep_end if found else 0, keep_end))
        if end == count:
            return found
        begin += settings.stride
