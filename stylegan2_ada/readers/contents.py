"""What a file holds, judged by its first bytes and not by its name."""

from pathlib import Path

from stylegan2_ada.readers.errors import SUPPORTED, CheckpointError

PICKLE = "a pickle"
TORCH_ARCHIVE = "a PyTorch archive"
OLD_TORCH_FILE = "an old PyTorch file"
SAFETENSORS = "a safetensors file"

_OLD_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickle of the number that torch.save wrote first


def content_of(path: Path) -> str:
    """One of the names above, or "unknown data".

    Raises:
        CheckpointError: if there is no such file, or it is empty or a web page.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; supported are {SUPPORTED}.")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened: {error.strerror}.") from None
    if not head:
        raise CheckpointError(f"{path} is empty: its download must have failed.")
    # First, because the length in its first bytes can look like another format's mark.
    if head[4:9] == b"\0\0\0\0{":
        return SAFETENSORS
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise CheckpointError(f"{path} holds a web page, perhaps the error page of a download, not weights.")
    if head.startswith(b"PK"):
        return TORCH_ARCHIVE
    if head.startswith(_OLD_TORCH_MAGIC):
        return OLD_TORCH_FILE
    if head.startswith(b"\x80"):
        return PICKLE
    return SAFETENSORS if head[8:9] == b"{" else "unknown data"
