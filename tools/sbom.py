"""Put a software bill of materials (PEP 770) into wheels: what is in them that others wrote.

    python tools/sbom.py dist/*.whl      # each is written anew, as the same bytes for the same input

It is CycloneDX 1.6 in JSON, at `f1buf-VERSION.dist-info/sboms/f1buf.cdx.json`: f1buf itself, uPlot, which the pages use
(its version is read from the file), and Cython, whose own code is part of each module that it translates. What f1buf
depends on at run time is not in the wheel: that is in its metadata. A library that auditwheel grafts is named in a file
of auditwheel's own beside it: none where the C library is glibc; with musl, that of C++.

Needs cyclonedx-python-lib and wheel (tools/build-constraints.txt has their versions), and SOURCE_DATE_EPOCH, the time
that is written everywhere; without it, 1980.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import uuid
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.contact import OrganizationalContact
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

OLDEST = 315_532_800  # [s] 1980, before which a zip archive has no times
PINNED = Path(__file__).with_name("build-constraints.txt")


def built_by(folder: Path) -> str:
    """The version of Cython with which releases are built; the modules that name theirs (not all do) must agree."""
    version = re.search(r"^Cython==(\S+)", PINNED.read_text(), re.MULTILINE)[1]
    named = {
        name for module in folder.rglob("*.so") for name in re.findall(rb"_cython_(\d+_\d+_\d+)", module.read_bytes())
    }
    if others := named - {version.replace(".", "_").encode()}:
        sys.exit(f"sbom: error: a module was made by Cython {others.pop().decode()}; {PINNED.name} says {version}")
    return version


def component(name: str, version: str, licence: str, kind: str, **more) -> Component:
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        licenses=[DisjunctiveLicense(id=licence)],
        purl=PackageURL(kind, None, name.lower(), version),
        bom_ref=f"{kind}:{name.lower()}@{version}",
        **more,
    )


def bill(wheel: Path, folder: Path, epoch: int) -> str:
    """The bill of the wheel that is unpacked in `folder`, as JSON."""
    version = wheel.name.split("-")[1]
    script = (folder / "f1buf/web/static/uPlot.iife.min.js").read_bytes()
    uplot = re.search(rb"uPlot \(v([\d.]+)\)", script)[1].decode()
    digest = HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(script).hexdigest())
    licence = (folder / "f1buf/web/static/uPlot-LICENSE.txt").read_text()
    owner = re.search(r"^Copyright .*$", licence, re.MULTILINE)[0]
    itself = component("f1buf", version, "MIT", "pypi")
    parts = [
        component("uPlot", uplot, "MIT", "npm", hashes=[digest], copyright=owner),
        component(
            "Cython", built_by(folder), "Apache-2.0", "pypi", description="its code for run time, in each module"
        ),
    ]
    bom = Bom(components=parts, serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"pkg:pypi/{wheel.name}"))
    bom.metadata.timestamp = datetime.fromtimestamp(epoch, UTC)
    bom.metadata.component = itself
    bom.metadata.authors.add(OrganizationalContact(name="The f1buf maintainers"))
    bom.register_dependency(itself, parts)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def add_bill(wheel: Path, epoch: int) -> None:
    """Unpack the wheel, write the bill, and pack it again, its RECORD with it."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "wheel"]
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "env": environment}
        subprocess.run([*command, "unpack", "--dest", work, wheel], **quiet)
        (folder,) = Path(work).iterdir()
        (info,) = folder.glob("*.dist-info")
        (info / "sboms").mkdir(exist_ok=True)
        (info / "sboms/f1buf.cdx.json").write_text(bill(wheel, folder, epoch))
        subprocess.run([*command, "pack", "--dest-dir", wheel.parent, folder], **quiet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="+", type=Path, metavar="WHEEL")
    wheels = parser.parse_args().wheels
    epoch = os.environ.get("SOURCE_DATE_EPOCH", str(OLDEST))
    if not epoch.isdecimal():
        parser.error(f"SOURCE_DATE_EPOCH is {epoch!r}; expected seconds since 1970")
    for wheel in wheels:
        if not zipfile.is_zipfile(wheel):
            parser.error(f"{wheel}: no wheel; expected files that tools/wheels.py or cibuildwheel has made")
    for wheel in wheels:
        add_bill(wheel, max(int(epoch), OLDEST))


if __name__ == "__main__":
    main()
