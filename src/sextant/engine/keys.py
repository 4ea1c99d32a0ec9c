"""The two halves of a memo key: what code would make a partition, and from what content. Pure.

Equal halves mean equal output, so nothing is computed; an input that was computed again to the same
content leaves the
`inputs` half as it was, and so stops the change there (early cut-off).
"""

import hashlib
import sys
from collections.abc import Iterable, Mapping

import msgspec

from sextant.kernel.kinds import authored, kinds, made
from sextant.kernel.nouns import Asset, Part
from sextant.kernel.partitions import ALL, Partitioning

_PYTHON = f"python=={sys.version_info.major}.{sys.version_info.minor}"
UNPARTITIONED = Partitioning()


def digest(*fields: str) -> str:
    """Return the hex SHA-256 over length-prefixed fields (so that no two field lists collide)."""
    sha = hashlib.sha256()
    for field in fields:
        data = field.encode()
        sha.update(len(data).to_bytes(4, "big"))
        sha.update(data)
    return sha.hexdigest()


def code_digest(asset: Asset) -> str:
    """Return the digest of what makes this asset's rows: code, settings, shape, and the
    distributions that it reaches."""
    found: str | None = asset.__dict__.get("code_digest")  # an asset never changes
    if found is None:
        found = asset.__dict__["code_digest"] = _code_digest(asset)
    return found


def _code_digest(asset: Asset) -> str:
    build = asset.build
    if build is None:
        return digest("none", asset.id)
    shape = msgspec.json.encode(made(asset.kind).shape(asset))
    inputs = [[i.name, i.asset, i.window] for i in build.inputs]
    return digest(
        "code-1",
        build.code.language,
        build.code.fingerprint,
        msgspec.json.encode(build.params, order="deterministic").decode(),
        msgspec.json.encode(inputs).decode(),
        shape.decode(),
        _PYTHON,
        *build.code.modules,
        *(
            ["files", *(word for pair in sorted(build.code.files.items()) for word in pair)]
            if build.code.files
            else []
        ),
    )


def inputs_digest(found: Iterable[tuple[str, str, str]]) -> str:
    """Return the digest of the content read: (parameter, partition, content digest), in order."""
    return digest("inputs-1", *(field for triple in found for field in triple))


def pushed_digest(blobs: Iterable[str]) -> str:
    """Return one digest for the blobs of a partition's pushed rows."""
    return digest("pushed-1", *blobs)


def definition_digest(asset: Asset) -> str:
    """Return the version digest of an asset that *is* its definition (a kpi)."""
    return authored(asset.kind).definition(asset)


def partitioning(asset: Asset) -> Partitioning:
    """Return how the asset is sliced; what nothing makes is one slice."""
    is_made = asset.build is not None and asset.kind in kinds()
    return made(asset.kind).partitioning(asset) if is_made else UNPARTITIONED


def content_of(parts: Mapping[str, Part]) -> str:
    """Return one digest for all partitions together: what an input over everything depends on."""
    if len(parts) == 1 and ALL in parts:
        return parts[ALL].digest
    return digest(
        "all-1", *(field for name in sorted(parts) for field in (name, parts[name].digest))
    )
