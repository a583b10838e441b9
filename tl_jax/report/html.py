"""The parts that all pages share: templates, filters, embedded images, whole files."""

import base64
import importlib.util
import io
import pathlib
from typing import Any

import PIL.Image

from tl_jax.errors import UserError
from tl_jax.report import text
from tl_jax.whole import whole

FILTERS = (
    *("cell", "kept", "metric", "number", "percent", "seconds", "setbacks", "size", "visible"),
)


def require() -> None:
    """Raise UserError unless the report's libraries are installed; call it before a long run."""
    for library in ("jinja2", "matplotlib", "scipy"):
        if importlib.util.find_spec(library) is None:
            raise UserError(
                f"the report needs {library}, which is not installed: pip install tl_jax[report]"
            )


def render(template: str, **shown: Any) -> str:
    """Return the page of a template, a file of this folder, with the values `shown`, escaped."""
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
    """Return a picture as a data URI, without loss."""
    return uri("image/png", _encoded(image, "PNG", optimize=True))


def jpeg(image: PIL.Image.Image) -> str:
    """Return a photograph as a data URI."""
    return uri("image/jpeg", _encoded(image, "JPEG", quality=85))


def _encoded(image: PIL.Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def uri(kind: str, content: bytes) -> str:
    """Return bytes as a data URI of the media type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def put(path: pathlib.Path, content: str | bytes) -> pathlib.Path:
    """Write a file that appears whole or not at all."""
    with whole(path) as partial:
        partial.write_bytes(content if isinstance(content, bytes) else encoded(content))
    return path


def encoded(content: str) -> bytes:
    """Encode as UTF-8; lone surrogates, which stand for undecodable file names, are escaped."""
    return content.encode("utf-8", "backslashreplace")
