"""Visual tokenizers: an image becomes a grid of words from a finite vocabulary, the targets of BEiT.

The contract is one method, ``codes(images) -> int64 [n, patches]``. Two of the three live here:

    PatchKMeans     word of a patch = nearest of K centroids of the training patches
    DalleCodebook   OpenAI's discrete VAE, 8192 words, through transformers' FlavaImageCodebook

and the discrete VAE that is trained here in ``discrete_vae``. BEiT's own ablation says that the tokenizer need not be
DALL-E's; for maps of molecules k-means is the cheap first choice.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlsim.errors import DependencyError, InputError, MissingError

#: Patches that k-means looks at, at most; more change nothing but the time.
_MOST_PATCHES = 20_000


class Tokenizer(nn.Module):
    """Base of the tokenizers.

    Attributes
    ----------
    kind : str
    words : int
        Size of the vocabulary.
    patch : int
        Side of a patch, pixels.
    """

    kind: ClassVar[str]
    words: int
    patch: int

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What :func:`mlsim.repr.beit.tokenizer_kinds.build_tokenizer` needs besides the parameters."""

    @abstractmethod
    def codes(self, images: Tensor) -> Tensor:
        """Words, int64 [n, (h/patch)(w/patch)], of images [n, c, h, w] in [0, 1]."""


def patches_of(images: Tensor, patch: int) -> Tensor:
    """Cut images [n, c, h, w] into flat patches [n, (h/patch)(w/patch), c patch patch], row by row."""
    return nn.functional.unfold(images, patch, stride=patch).transpose(1, 2)


class PatchKMeans(Tokenizer):
    """K-means on the pixels of patches.

    Parameters
    ----------
    centroids : Tensor [K, c patch patch]
    patch : int
    """

    kind = "patches"
    centroids: Tensor

    def __init__(self, centroids: Tensor, patch: int) -> None:
        super().__init__()
        self.register_buffer("centroids", centroids.to(torch.float32))
        self.patch = patch
        self.words = len(centroids)

    @classmethod
    def fit(cls, images: Tensor, *, words: int, patch: int, seed: int) -> PatchKMeans:
        """Cluster the patches of ``images`` [n, c, h, w] into ``words`` clusters.

        Raises
        ------
        InputError
            If there are fewer different patches than words.
        DependencyError
            If scikit-learn is missing.
        """
        try:
            from sklearn.cluster import KMeans
        except ImportError:
            raise DependencyError('PatchKMeans.fit needs scikit-learn: pip install "mlsim[repr]"') from None
        rows = patches_of(images, patch).reshape(-1, images.shape[1] * patch * patch).numpy()
        if len(rows) > _MOST_PATCHES:
            rows = rows[np.random.default_rng(seed).permutation(len(rows))[:_MOST_PATCHES]]
        different = len(np.unique(rows, axis=0))
        if different < words:
            raise InputError(f"k-means tokenizer: expected at most {different} words (different patches), got {words}")
        means = KMeans(words, n_init=1, random_state=seed % 2**32, max_iter=50).fit(rows.astype(np.float32))
        return cls(torch.from_numpy(means.cluster_centers_.astype(np.float32)), patch)

    @property
    def config(self) -> dict[str, Any]:
        """Patch and shape of the centroids."""
        return {"kind": self.kind, "patch": self.patch, "shape": list(self.centroids.shape)}

    def codes(self, images: Tensor) -> Tensor:
        """Index of the nearest centroid of every patch."""
        rows = patches_of(images, self.patch)
        distance = (self.centroids**2).sum(1) - 2.0 * rows @ self.centroids.T
        return distance.argmin(-1)


class DalleCodebook(Tokenizer):
    """DALL-E's discrete VAE (8192 words, 8 x 8 pixels per word of its own input).

    An image of g x g patches is resized to 8g x 8g (112 for the 14 x 14 grid of BEiT), grey becomes three equal
    channels, and pixels are mapped to 0.8 x + 0.1 as DALL-E does.
    """

    kind = "dalle"

    def __init__(self, network: nn.Module, patch: int) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.patch = patch
        self.words = int(network.vocab_size)  # type: ignore[arg-type]

    @classmethod
    def from_pretrained(cls, source: str | Path, *, patch: int) -> DalleCodebook:
        """Load the codebook from a directory or hub name (``facebook/flava-image-codebook``).

        Raises
        ------
        MissingError
            If transformers finds none there.
        """
        from transformers import FlavaImageCodebook

        try:
            network = FlavaImageCodebook.from_pretrained(source)
        except OSError as error:
            raise MissingError(f"no image codebook at '{source}': {' '.join(str(error).split())[:200]}") from None
        return cls(network, patch)

    @property
    def config(self) -> dict[str, Any]:
        """Patch and the configuration of transformers' class."""
        return {"kind": self.kind, "patch": self.patch, "network": self.network.config.to_diff_dict()}  # type: ignore

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Index of the most probable word of every patch."""
        grid = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        size = (8 * grid[0], 8 * grid[1])
        view = nn.functional.interpolate(images, size=size, mode="bilinear", antialias=True).clamp(0.0, 1.0)
        if view.shape[1] == 1:
            view = view.expand(-1, 3, -1, -1)
        return self.network.get_codebook_indices(0.8 * view + 0.1).flatten(1)  # type: ignore


def usage(codes: NDArray[np.int64] | Tensor, words: int) -> tuple[float, float]:
    """Fraction of the vocabulary in use, and the share of its most frequent word (accuracy of always saying it)."""
    counts = np.bincount(np.asarray(codes).ravel(), minlength=words)
    return float((counts > 0).mean()), float(counts.max() / counts.sum())
