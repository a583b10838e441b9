"""Preparing TFDS datasets on disk, as `tl_jax.data.tasks.tfds` reads them."""

import os
import urllib.error
import urllib.request

from tl_jax.data.tasks.tfds import not_prepared
from tl_jax.errors import UserError

SERVER = "https://storage.googleapis.com"
SECONDS = 20  # for the server to answer


def prepare(name: str, data_dir: str | os.PathLike | None = None) -> str:
    """Download a TFDS dataset and write it as array_record; return its folder.

    A dataset that is already there is left as it is. UserError where there is no network, for an
    unknown name, and for what TFDS cannot do by itself: some datasets need TensorFlow or other
    packages, or files that one has to fetch by hand.
    """
    import tensorflow_datasets as tfds

    folder = os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR)
    try:
        builder = tfds.builder(name, data_dir=folder, file_format="array_record")
        if not builder.data_path.exists():  # is_prepared() warns of what is not there
            if type(builder).__module__.startswith("tensorflow_datasets."):
                _require_network(name)
            builder.download_and_prepare()
    except UserError:
        raise
    except tfds.core.registered.DatasetNotFoundError as error:
        catalogue = tfds.list_builders(with_community_datasets=False)
        raise not_prepared(name, folder, catalogue) from error
    except ImportError as error:
        package = error.name or "tensorflow"  # TFDS raises a plain ImportError for TensorFlow
        raise UserError(
            f"TFDS prepares {name!r} with the package {package}: pip install {package}, which is "
            "not needed later, or prepare it elsewhere and copy its folder"
        ) from error
    except Exception as error:  # each builder has its own
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"TFDS dataset {name!r} cannot be prepared: {reason}") from error
    return str(builder.data_path)


def _require_network(name: str) -> None:
    """UserError at once where no server answers: TFDS itself would go on trying for minutes."""
    try:
        urllib.request.urlopen(SERVER, timeout=SECONDS).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except OSError as error:
        raise UserError(
            f"TFDS dataset {name!r} is not there, and there is no network to fetch it "
            f"({SERVER}: {error}); run the same command where there is one, and copy the folder"
        ) from error
