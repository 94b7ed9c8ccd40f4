"""Image features in the files of other programs: arrays of NumPy, PyTorch and HDF5.

No pickled object is ever loaded. Files are mapped and read a piece at a time, but for an array in a
.npz and a .pth older than PyTorch 1.6.
"""

import contextlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import h5py
import numpy as np
import torch
from torch import Tensor

from .feature_layouts import FeaturesError
from .files_below import files_below
from .image_ids import ImageIdsError, in_short, read_image_ids

_DTYPES = ("float16", "bfloat16", "float32", "float64")


class Source(NamedTuple):
    """The features of one file or folder, and whose they are."""

    path: Path
    ids: List[str]
    """(N,), "" for a row that belongs to no image"""
    shape: Tuple[int, ...]
    """(N, ...)"""
    dtype: str
    read: Callable[[int, int], np.ndarray]
    """(start, stop) -> these rows"""

    def place(self, row: int) -> str:
        """A row, for messages."""
        return f"{self.path} row {row} ({self.ids[row]})"


def open_source(path: Path, list_of_ids: Optional[Path], key: Optional[str]) -> Source:
    """Find the rows of a features file or folder, without reading more than its description.

    Args:
        path: the file or folder.
        list_of_ids: names the image of each row; None where the file does so itself.
        key: which of several arrays.

    Raises:
        FeaturesError, ImageIdsError: unreadable, unsuitable, or not as many rows as lines.
    """
    with reading(path):
        open_it = _open_folder if path.is_dir() else _open_file
        source = open_it(path, list_of_ids, key)
    if source.dtype not in _DTYPES:
        raise FeaturesError(
            f"{path} holds {source.dtype} of shape {source.shape}; features are one of "
            f"{', '.join(_DTYPES)}"
        )
    if 0 in source.shape[1:]:
        raise FeaturesError(f"{path} holds nothing: its shape is {source.shape}")
    return source


def _load(path: Path) -> Any:
    """What a file holds: an array, a list of arrays, or arrays by name; mapped, not read."""
    if path.suffix not in LOADERS:
        raise FeaturesError(
            f"{path} is neither a folder nor a file of a known kind: {', '.join(LOADERS)}"
        )
    if not path.is_file():
        raise FeaturesError(f"there is no file {path}")
    with reading(path):
        return LOADERS[path.suffix](path)


@contextlib.contextmanager
def reading(where: object) -> Iterator[None]:
    """Say which file it was that could not be read."""
    try:
        yield
    except (FeaturesError, ImageIdsError):
        raise
    except pickle.UnpicklingError as error:
        raise FeaturesError(
            f"{where} holds more than tensors, which is refused because it could run code. Where "
            "you trust it, load it yourself and save the tensor alone with torch.save."
        ) from error
    except Exception as error:  # each library lets other types through for a file of another format
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise FeaturesError(f"{where} cannot be read: {reason}") from error


def _load_numpy(path: Path) -> Any:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _load_torch(path: Path) -> Any:
    mappable = zipfile.is_zipfile(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)


def _load_hdf5(path: Path) -> Dict[str, h5py.Dataset]:
    found: Dict[str, h5py.Dataset] = {}

    def note(name: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset):
            found[name] = entry

    h5py.File(path, "r").visititems(note)
    return found


LOADERS: Dict[str, Callable[[Path], Any]] = {
    ".npy": _load_numpy,
    ".npz": _load_numpy,
    ".pth": _load_torch,
    ".pt": _load_torch,
    ".h5": _load_hdf5,
    ".hdf5": _load_hdf5,
}


def _open_file(path: Path, list_of_ids: Optional[Path], key: Optional[str]) -> Source:
    content = _load(path)
    if isinstance(content, Mapping):
        keys = {str(name): name for name in content}
        names = list(keys)
        if key is not None and key not in keys:
            raise FeaturesError(f"{path} has no array {key!r}; it has {in_short(names)}")
        if key is None and list_of_ids is None and names == ["arr_0"]:
            raise FeaturesError(
                f"{path} holds one array and does not name its images; give their list with --ids"
            )
        if key is None and list_of_ids is None:
            return _stacked(path, names, lambda row: content[keys[names[row]]])
        if key is None and len(names) != 1:
            raise FeaturesError(
                f"{path} holds {len(names)} arrays ({in_short(names)}); choose one with --key, or "
                "give no --ids where there is one for each image, called by its id"
            )
        content = content[keys[names[0] if key is None else key]]
    elif key is not None:
        raise FeaturesError(f"{path} holds a single array, so --key {key} chooses nothing")
    if list_of_ids is None:
        raise FeaturesError(f"{path} does not name its images; give their list with --ids")
    ids = read_image_ids(list_of_ids)
    if not isinstance(content, (list, tuple)):
        _check_array(content, path)
    if len(content) != len(ids):
        raise FeaturesError(
            f"{path} has {len(content)} rows of features but {list_of_ids} has {len(ids)} lines. "
            "Give the list of images that the features were made from."
        )
    if isinstance(content, (list, tuple)):
        return _stacked(path, ids, content.__getitem__)
    return Source(
        path,
        ids,
        tuple(content.shape),
        _dtype_name(content),
        lambda start, stop: _to_numpy(content[start:stop]),
    )


def _open_folder(path: Path, list_of_ids: Optional[Path], key: Optional[str]) -> Source:
    if key is not None:
        raise FeaturesError(f"{path} has an array for each image, so --key {key} chooses nothing")
    if list_of_ids is None:
        files = files_below(path)
        ids = [name.removesuffix(".npy") for name in files if name.endswith(".npy")]
    else:
        ids = [name for name in read_image_ids(list_of_ids) if name]
    absent = [name for name in ids if not (path / f"{name}.npy").is_file()]
    if absent:
        raise FeaturesError(
            f"{path} has no file ID.npy for {len(absent)} of {len(ids)} lines of {list_of_ids}: "
            f"{in_short([f'{name}.npy' for name in absent])}"
        )
    return _stacked(path, ids, lambda row: _load(path / f"{ids[row]}.npy"))


def _stacked(path: Path, ids: List[str], item: Callable[[int], Any]) -> Source:
    """A source whose rows are arrays of their own; their shapes are compared here."""
    if not ids:
        raise FeaturesError(f"{path} holds no features, or its list names none")
    first = item(0)
    unequal = []
    for row, name in enumerate(ids):
        array = item(row)
        _check_array(array, f"{path}: {name!r}")
        if (array.shape, array.dtype) != (first.shape, first.dtype):
            unequal.append(name)
    if unequal:
        raise FeaturesError(
            f"{path}: {len(unequal)} of {len(ids)} arrays are not, like that of {ids[0]!r}, of "
            f"shape {tuple(first.shape)} and {_dtype_name(first)}: {in_short(unequal)}"
        )
    return Source(
        path,
        ids,
        (len(ids), *first.shape),
        _dtype_name(first),
        lambda start, stop: np.stack([_to_numpy(item(row)) for row in range(start, stop)]),
    )


def _check_array(array: Any, where: object) -> None:
    if not isinstance(array, (np.ndarray, Tensor, h5py.Dataset)) or not len(array.shape):
        raise FeaturesError(f"{where} is no array of features but of type {type(array).__name__}")
    if isinstance(array, h5py.Dataset):
        creation = array.id.get_create_plist()
        filters = [creation.get_filter(number) for number in range(creation.get_nfilters())]
        for code, _, _, name in filters:
            if not h5py.h5z.filter_avail(code):
                raise FeaturesError(
                    f"{where}: `{array.name}` is compressed with the HDF5 filter {code} "
                    f"({name.decode()}), which is not installed. Install it with `pip install "
                    "hdf5plugin` and `export HDF5_PLUGIN_PATH=$(python -c 'import hdf5plugin; "
                    "print(hdf5plugin.PLUGIN_PATH)')`."
                )


def _dtype_name(array: Any) -> str:
    return (
        str(array.dtype).removeprefix("torch.") if isinstance(array, Tensor) else array.dtype.name
    )


def _to_numpy(values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)
