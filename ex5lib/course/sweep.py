"""A slider through finished images, for pages without a kernel."""

import html
from collections.abc import Mapping, Sequence

from IPython.display import HTML
from torch import Tensor

from ex5lib.errors import SettingError
from ex5lib.images.frames import FRAME_SIZE, data_uri, jpeg

# An attribute and not a <script>: browsers do not run scripts in HTML that a page inserts.
_SHOW_FRAME = (
    "const at = +this.value, stack = this.closest('[data-sweep]').querySelectorAll('[data-frames] > figure');"
    "stack.forEach((figure, i) => figure.style.display = i === at ? '' : 'none');"
    "this.setAttribute('aria-valuetext', stack[at].innerText)"
)


def sweep_html(
    titles: Sequence[str | float],
    images: Sequence[Tensor],
    *,
    label: str = "frame",
    numbers: Mapping[str, Sequence[float]] | None = None,
    beside: Mapping[str, Tensor] | None = None,
    start: int = 0,
) -> HTML:
    """A slider through finished images, as one piece of HTML that needs neither a kernel nor the network.

    A page can hold several: each slider finds its own frames.

    Args:
        titles: one per image: a word, or the slider's number there.
        images: [1, 3, S, S] in [−1, 1] each; embedded as JPEGs of at most 256 px.
        label: what the slider changes.
        numbers: {name: one number per image}, shown below each image.
        beside: {title: [1, 3, S, S]}: images that always show, such as the original.
        start: index of the image shown first.

    Raises:
        SettingError: if anything of this does not fit.

    Example:
        >>> sweep_html([1e-5, 1e-3, 0.1], [run.image for run in runs], label="λ_w", beside={"original": face.image})
    """
    columns = dict(numbers or {})
    for name, values in {"titles": titles, **columns}.items():
        if len(values) != len(images):
            raise SettingError(f"A sweep of {len(images)} images needs as many {name}, not {len(values)}.")
    if not 0 <= start < len(images):
        raise SettingError(f"A sweep of {len(images)} images cannot start at image {start}.")

    words = [title if isinstance(title, str) else f"{title:g}" for title in titles]
    frames = ""
    for i, (title, image) in enumerate(zip(words, images, strict=True)):
        notes = [f"{name} {values[i]:.4g}" for name, values in columns.items()]
        frames += _figure(f"{label}: {title}", image, notes, visible=i == start)
    fixed = "".join(_figure(title, image) for title, image in (beside or {}).items())
    return HTML(
        '<div data-sweep style="max-width:1100px">'
        f'<label style="display:flex;gap:8px;align-items:center;max-width:540px">{html.escape(label)}'
        f'<input type="range" min="0" max="{len(images) - 1}" step="1" value="{start}" style="flex:1"'
        f' autocomplete="off" aria-valuetext="{html.escape(words[start])}"'
        f' oninput="{html.escape(_SHOW_FRAME)}"></label>'
        f'<div style="display:flex;flex-wrap:wrap;gap:12px;margin-top:8px">{fixed}'
        f"<div data-frames>{frames}</div></div></div>"
    )


def _figure(title: str, image: Tensor, notes: Sequence[str] = (), *, visible: bool = True) -> str:
    shown, text = "" if visible else "display:none;", html.escape(title)
    lines = "".join(f"<br>{html.escape(note)}" for note in notes)
    return (
        f'<figure style="{shown}margin:0;width:{FRAME_SIZE}px;max-width:100%">'
        f'<img alt="{text}" src="{data_uri(jpeg(image))}" style="width:100%;display:block">'
        f"<figcaption>{text}{lines}</figcaption></figure>"
    )
