"""What a recipe may say about clouds of points."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bnnapps.validation import Record

Source = Literal["shapes10", "rooms", "modelnet", "modelnet_hdf5", "modelnet_voxels", "shapenet", "s3dis"]
Target = Literal["class", "parts", "scene"]
EMBEDDED: tuple[Source, ...] = ("shapes10", "rooms")
TARGETS: dict[Source, tuple[Target, ...]] = {
    "shapes10": ("class", "parts"),
    "rooms": ("scene",),
    "modelnet": ("class",),
    "modelnet_hdf5": ("class",),
    "modelnet_voxels": ("class",),
    "shapenet": ("parts",),
    "s3dis": ("scene",),
}
"""What each source has labels for; the first is meant where a recipe does not say."""
_NORMALS: tuple[Source, ...] = ("shapes10", "modelnet", "modelnet_hdf5", "shapenet")


class CloudData(Record):
    """Which clouds, and how they are batched and changed in training."""

    source: Source = "shapes10"
    """`shapes10` and `rooms` are embedded; the others read files from `root`."""
    root: str | None = None
    """`modelnet`: CLASS/train/*.off and CLASS/test/*.off; `modelnet_hdf5`: train_files.txt, test_files.txt and
    shape_names.txt; `modelnet_voxels`: an .npz of voxel grids, or its folder; `shapenet`: train_test_split and a folder
    a category; `s3dis`: all_files.txt and room_filelist.txt. Folders of PyG's
    `ModelNet`, `ShapeNet` and `S3DIS` too, which have these below `raw`."""
    target: Target | None = None
    """`class`: one for each cloud; `parts`: the part that each point belongs to; `scene`: the class of each point. By
    default what the source has; `shapes10` has the first two."""
    category: str | None = None
    """For `parts`: only the clouds of this category and its parts (BiPointNet trains one network for each)."""
    test_area: int = Field(default=5, ge=1, le=6)
    """For `s3dis`: the area that is evaluated; the others train."""
    points: int = Field(default=1024, ge=1)
    """Points of a cloud that the network sees: others in each epoch of training, the same ones in evaluation."""
    stored: int = Field(default=2048, ge=1)
    """Points that are drawn once on each mesh and kept; for `shapenet` those that a cloud is brought to."""
    repeat: bool = False
    """Points of a cloud come again where it has fewer than `points`; otherwise that is an error."""
    normals: bool = False
    """Each point has its normal beside its place: six numbers."""
    cache: str | None = None
    """A folder for what was drawn on meshes or read from slow files; by default `.bnnapps_cache` in `root`."""
    train_size: int | None = Field(default=None, ge=1)
    """Take only so many training clouds, drawn with the recipe's seed; of an embedded source, make so many."""
    dev_size: int | None = Field(default=None, ge=1)
    """Likewise of the dev set."""
    batch_size: int = Field(default=32, ge=1)
    eval_batch_size: int = Field(default=64, ge=1)
    scale: list[float] = Field(default_factory=lambda: [1.0, 1.0])
    """In training each axis is multiplied by its own number between these two."""
    translate: float = Field(default=0.0, ge=0)
    """In training each axis moves by up to so much."""
    jitter: float = Field(default=0.0, ge=0)
    """In training each coordinate gets noise of this deviation, at most five times of it."""
    rotate: list[float] = Field(default_factory=lambda: [0.0, 0.0, 0.0])
    """In training the cloud turns by up to so many degrees about x, y and z; 180 about one axis is any turn."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """In training up to this share of the points falls away: the first point stands in their places."""
    workers: int = Field(default=0, ge=0)
    """Processes that make batches."""
    generator_seed: int = Field(default=0, ge=0)
    """Of the embedded sources, and of the points drawn on meshes and in voxels."""

    @property
    def wanted(self) -> Target:
        """The target, by default that of the source."""
        return TARGETS[self.source][0] if self.target is None else self.target

    @model_validator(mode="after")
    def _fits_together(self) -> CloudData:
        if self.source in EMBEDDED and self.root is not None:
            raise ValueError(f"root is given, but source '{self.source}' reads no files: drop root")
        if self.target is not None and self.target not in TARGETS[self.source]:
            known = " or ".join(f"'{t}'" for t in TARGETS[self.source])
            raise ValueError(f"source '{self.source}' has labels for {known}, and target is '{self.target}'")
        if self.category is not None and self.wanted != "parts":
            raise ValueError(f"category is for the target 'parts', and the target is '{self.wanted}': drop it")
        if self.normals and self.source not in _NORMALS:
            raise ValueError(f"source '{self.source}' has no normals: set normals to false")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {self.scale}: give the smallest and the largest factor, both above 0")
        if len(self.rotate) != 3 or not all(0 <= angle <= 180 for angle in self.rotate):
            raise ValueError(f"rotate is {self.rotate}: give degrees between 0 and 180 for x, y and z")
        return self
