"""Files of others, read whole if they are of a believable size."""

from pathlib import Path


def read_bounded(path: Path, most: int) -> bytes:
    """Return the content of a file of at most so many bytes.

    Raises:
        ValueError: it is larger, or cannot be read.
    """
    try:
        if path.stat().st_size > most:
            raise ValueError(
                f"{path} is larger than {most} bytes, which no model of this kind is"
            )
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
