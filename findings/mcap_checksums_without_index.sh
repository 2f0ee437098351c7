#!/usr/bin/env bash
# mcap 1.6.0 compares no checksums of a file without an index, though it was told to: a changed value is read as it is.
#
# make_reader(file, validate_crcs=True) of a seekable file is a SeekingReader. Where the file has no index of its chunks,
# as one whose writer makes none, it reads by a NonSeekingReader of its own, and does not tell that to compare
# (mcap/reader.py:378: NonSeekingReader(self._stream)). The same bytes without seek() are refused.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install mcap==1.6.0 lz4==4.4.5 zstandard==0.25.0

found=$(timeout 60 venv/bin/python - <<'PYTHON'
from mcap.reader import NonSeekingReader, make_reader
from mcap.writer import CompressionType, IndexType, Writer

for kind in IndexType.ALL, IndexType.NONE:
    with open("a.mcap", "wb") as file:
        writer = Writer(file, index_types=kind, compression=CompressionType.NONE)
        writer.start()
        writer.add_message(writer.register_channel("/a", "json", 0), 0, b'{"speed": 310}', 0)
        writer.finish()
    with open("a.mcap", "rb") as file:
        data = file.read()
    with open("a.mcap", "wb") as file:
        file.write(data.replace(b"310", b"390"))
    for reader in make_reader, NonSeekingReader:
        with open("a.mcap", "rb") as file:
            try:
                said = [message.data.decode() for _, _, message in reader(file, validate_crcs=True).iter_messages()]
            except ValueError:
                said = "refused"
        print(kind.name, reader.__name__, said, end="; ")
PYTHON
)
echo "mcap 1.6.0, a speed of 310 that was changed to 390, validate_crcs=True: $found"
expected="ALL make_reader refused; ALL NonSeekingReader refused; "
expected+="NONE make_reader ['{\"speed\": 390}']; NONE NonSeekingReader refused; "
[[ $found == "$expected" ]] || { echo "the behaviour has changed" >&2; exit 1; }
