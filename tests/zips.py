"""Zips as other libraries write them, changed at will: what a reader of theirs must withstand."""

import io
import json
import lzma
import zipfile
from base64 import b64encode
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden/foreign"


def golden(name: str) -> bytes:
    """Return the content of a golden model or pickle."""
    return lzma.decompress((GOLDEN / f"{name}.xz").read_bytes())


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def zipped(contents: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return made.getvalue()


def with_members(data: bytes, changed: dict[str, bytes]) -> bytes:
    """Return a zip with some members changed, and right CRCs."""
    return zipped(members(data) | changed)


def with_tensors(data: bytes, pickled: bytes) -> bytes:
    """Return a model's zip with another pickle of its tensors."""
    tensors = members(data)["policy.pth"]
    root = next(name for name in members(tensors) if name.endswith("/data.pkl"))
    return with_members(data, {"policy.pth": with_members(tensors, {root: pickled})})


def with_field(data: bytes, name: str, value) -> bytes:
    """Return a model's zip with another field of its record; bytes are a pickle."""
    record = json.loads(members(data)["data"])
    record[name] = {":serialized:": b64encode(value).decode()} if isinstance(value, bytes) else value
    return with_members(data, {"data": json.dumps(record).encode()})
