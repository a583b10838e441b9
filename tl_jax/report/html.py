"""What all pages share: templates with their filters, images inside, files that appear whole."""

import base64
import importlib.util
import io
import os
import pathlib
from typing import Any

import PIL.Image

from tl_jax.errors import UserError
from tl_jax.report import text

FILTERS = (
    *("cell", "kept", "metric", "number", "percent", "seconds", "setbacks", "size", "visible"),
)


def require() -> None:
    """UserError unless what a report is made with is installed; to be known before a long run."""
    for library in ("jinja2", "matplotlib", "scipy"):
        if importlib.util.find_spec(library) is None:
            raise UserError(
                f"the report needs {library}, which is not installed: pip install tl_jax[report]"
            )


def render(template: str, **shown: Any) -> str:
    """The page that the template, a file of this folder, makes of what is `shown`, escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in FILTERS:
        environment.filters[name] = getattr(text, name)
    return environment.get_template(template).render(**shown)


def png(image: PIL.Image.Image) -> str:
    """A picture, pixel by pixel, as a data URI."""
    return uri("image/png", _encoded(image, "PNG", optimize=True))


def jpeg(image: PIL.Image.Image) -> str:
    """A photograph as a data URI."""
    return uri("image/jpeg", _encoded(image, "JPEG", quality=85))


def _encoded(image: PIL.Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def uri(kind: str, content: bytes) -> str:
    """Bytes as a data URI of the media type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def put(path: pathlib.Path, content: str | bytes) -> pathlib.Path:
    """Write a file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content if isinstance(content, bytes) else encoded(content))
    os.replace(partial, path)
    return path


def encoded(content: str) -> bytes:
    """UTF-8; a file name that is not reaches Python as lone surrogates, which are escaped."""
    return content.encode("utf-8", "backslashreplace")
