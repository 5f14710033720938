"""Writes the corpus that fuzzing starts from: `python3 fuzz/seeds.py` (numpy, pyarrow)."""

import datetime
import decimal
import gzip
import json
import pathlib
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CORPUS = pathlib.Path(__file__).parent / "corpus"


def folder(name):
    path = CORPUS / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def tables():
    n = 6
    ids = pa.array([f"S{i}" for i in range(n)])
    x = pa.array([0.5, None, -1.25, float("nan"), 3.0, 1e300])
    exact = [decimal.Decimal(i) / 8 for i in range(n)]
    kinds = {
        "integers": [pa.array([1, None, 3, 4, 5, 6], t()) for t in (pa.int8, pa.int16, pa.int32, pa.int64)],
        "unsigned": [pa.array([1, None, 3, 4, 5, 6], t()) for t in (pa.uint8, pa.uint16, pa.uint32, pa.uint64)],
        "floats": [pa.array(np.arange(n, dtype=np.float16)), x.cast(pa.float32(), safe=False), x],
        "decimals": [pa.array(exact, pa.decimal128(p, 3)) for p in (7, 15, 35)] + [pa.array(exact, pa.decimal256(60, 3))],
        "booleans": [pa.array([True, None, False, True, False, True]), pa.nulls(n)],
        "dictionary": [pa.array([1.5, 2.5, None, 1.5, 1.5, 2.5]).dictionary_encode()],
        "text": [ids.cast(pa.large_string()), ids.cast(pa.string_view()), ids.dictionary_encode(), ids.cast(pa.binary())],
        "lists": [pa.array([[1.0], [], None, [2.0, None], [3.0], []])],
        "structs": [pa.array([{"a": 1, "b": [2]}] * n)],
        "times": [pa.array([datetime.datetime(2026, 1, 1)] * n), pa.array([datetime.date(2026, 1, 1)] * n)],
        "fixed": [pa.array([b"abcd"] * n, pa.binary(4))],
        "infinite": [pa.array([float("inf"), 0.0, -float("inf"), 1.0, 2.0, 3.0])],
    }
    write = lambda name, table, **how: pq.write_table(table, folder("table") / f"{name}.parquet", **how)
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False, "store_schema": False}
    for name, columns in kinds.items():
        table = pa.table([ids, *columns], ["id", *(f"c{i}" for i in range(len(columns)))])
        write(name, table, **{**plain, "store_schema": name in ("dictionary", "text", "decimals")})
    both = pa.table([ids, x], ["id", "x"])
    for codec in ("snappy", "gzip", "brotli", "lz4", "zstd"):
        write(codec, both, **{**plain, "compression": codec})
    write("pages_v2", both, **plain, data_page_version="2.0")
    write("dictionary_pages", both, **{**plain, "use_dictionary": True}, row_group_size=4)
    write("row_groups", both, **plain, row_group_size=2)
    write("statistics", both, **{**plain, "write_statistics": True}, write_page_index=True, write_page_checksum=True)
    write("delta", pa.table([ids, pa.array(range(n))], ["id", "x"]), **plain, column_encoding={"id": "DELTA_BYTE_ARRAY", "x": "DELTA_BINARY_PACKED"})
    write("delta_length", both, **plain, column_encoding={"id": "DELTA_LENGTH_BYTE_ARRAY", "x": "BYTE_STREAM_SPLIT"})
    write("bits_of_booleans", pa.table([ids, kinds["booleans"][0]], ["id", "x"]), **plain, column_encoding={"id": "PLAIN", "x": "RLE"})
    write("no_rows", both.slice(0, 0), **plain)
    write("no_columns", pa.table({}), **plain)
    write("same_names", pa.table([ids, x, x], ["id", "x", "x"]), **plain)
    write("odd_names", pa.table([ids, x, x], ["", "a/b\n\t\"", "\u00e9*[?]{,}" * 9]), **plain)
    write("whole_floats_as_ids", pa.table([pa.array(np.arange(6.0)), x], ["id", "x"]), **plain)
    write("pandas_index", pa.table([ids, x, x], ["id", "x", "__index_level_0__"]), **plain)
    write("samples", pa.table([ids, pa.array([True] * n), pa.array(range(n), pa.uint64())], ["sample_id", "in_kernel", "row"]), **plain)
    features = [ids, x, x, x, pa.array(range(n)), pa.array([True] * n), pa.array(["constant"] + [None] * 5)]
    names = ["feature", "mean", "sd", "missing_rate", "n_missing", "kept", "reason"]
    write("features", pa.table(features, names), **plain)

    whole = (folder("table") / "row_groups.parquet").read_bytes()
    for name, rows in (("rows_of_the_file", 2**60), ("fewer_rows", 5), ("negative_rows", -1)):
        (folder("table") / f"{name}.parquet").write_bytes(with_rows(whole, rows))


def compact(*fields):
    """A structure of Thrift's compact protocol: (number, type, value) each, the value bytes of lists and structures as they are."""
    unsigned = lambda n: bytes([n]) if n < 128 else bytes([n & 127 | 128]) + unsigned(n >> 7)
    text, last = b"", 0
    for number, kind, value in fields:
        text += bytes([number - last << 4 | {"i32": 5, "i64": 6, "text": 8, "list": 9, "struct": 12, "true": 1}[kind]])
        if kind in ("i32", "i64"):
            text += unsigned(2 * value)
        elif kind == "text":
            text += unsigned(len(value)) + value
        elif kind == "list":
            element, values = value
            text += bytes([0xF0 | element]) + unsigned(len(values)) + b"".join(values)
        elif kind == "struct":
            text += value
        last = number
    return text + b"\0"


def hostile_tables():
    """Parquet whose pages, dictionaries and schemas say that they hold what they do not."""
    unsigned = lambda n: bytes([n]) if n < 128 else bytes([n & 127 | 128]) + unsigned(n >> 7)
    plain, delta_lengths, delta_text, by_dictionary = 0, 6, 7, 8

    def page(body, encoding, n=4, unpacked=None):
        head = compact((1, "i32", n), (2, "i32", encoding), (3, "i32", 3), (4, "i32", 3))
        return compact((1, "i32", 0), (2, "i32", unpacked or len(body)), (3, "i32", len(body)), (5, "struct", head)) + body

    def dictionary(body, n):
        head = compact((1, "i32", n), (2, "i32", plain))
        return compact((1, "i32", 2), (2, "i32", len(body)), (3, "i32", len(body)), (7, "struct", head)) + body

    def element(name, kind=None, children=None, length=None):
        of_type = [(1, "i32", kind)] if kind is not None else []
        of_length = [(2, "i32", length)] if length else []
        of_children = [(5, "i32", children)] if children else []
        return compact(*of_type, *of_length, (3, "i32", 0), (4, "text", name), *of_children, *([(6, "i32", 0)] if kind == 6 else []))

    def write(name, columns, n=4, schema=None):
        text, chunks = b"PAR1", []
        for column, kind, codec, pages, _ in columns:
            size, start = sum(map(len, pages)), len(text)
            place = [(9, "i64", start + len(pages[0])), (11, "i64", start)] if len(pages) > 1 else [(9, "i64", start)]
            about = [(1, "i32", kind), (2, "list", (5, [b"\0"])), (3, "list", (8, [unsigned(len(column)) + column])), (4, "i32", codec)]
            about += [(5, "i64", n), (6, "i64", size), (7, "i64", size), *place]
            chunks.append(compact((2, "i64", 0), (3, "struct", compact(*about))))
            text += b"".join(pages)
        schema = schema or [element(b"schema", children=len(columns))] + [element(it[0], it[1], length=it[4]) for it in columns]
        group = compact((1, "list", (12, chunks)), (2, "i64", len(text)), (3, "i64", n))
        footer = compact((1, "i32", 1), (2, "list", (12, schema)), (3, "i64", n), (4, "list", (12, [group])))
        (folder("table") / f"{name}.parquet").write_bytes(text + footer + struct.pack("<I", len(footer)) + b"PAR1")

    ids = [b"a1", b"a2", b"a3", b"a4"]
    with_lengths = b"".join(struct.pack("<I", len(it)) + it for it in ids)
    numbers = struct.pack("<4d", 1, 2.5, 3, 4)
    lengths = lambda n, tail=b"\0" + bytes(4), block=128, first=2: unsigned(block) + b"\4" + unsigned(n) + unsigned(2 * first) + tail
    text = lambda *pages, codec=0: (b"id", 6, codec, list(pages), None)
    x = (b"x", 5, 0, [page(numbers, plain)], None)
    # What these hold, for comparison.
    write("whole_delta_lengths", [text(page(lengths(4) + b"".join(ids), delta_lengths)), x])
    write("whole_delta_text", [text(page(lengths(4, first=0) + lengths(4) + b"".join(ids), delta_text)), x])
    keys = page(b"\2\3\xe4\0", by_dictionary)
    write("whole_dictionary", [text(dictionary(with_lengths, 4), keys), x])
    # Counts of a delta encoding.
    write("claims_delta_lengths", [text(page(lengths(1 << 51, bytes(40)), delta_lengths)), x])
    most = (1 << 31) - 1
    write("claims_delta_block", [text(page(lengths(most, bytes(40), 1 << 40, 0), delta_lengths, most)), x], most)
    write("claims_delta_prefixes", [text(page(lengths(1 << 51, bytes(40)), delta_text)), x])
    write("claims_delta_suffixes", [text(page(lengths(4, first=0) + lengths(1 << 51, bytes(40)), delta_text)), x])
    # A value of 5,000 bytes that stands in a thousand rows by the length of what they share with the one before.
    n, long = 1000, 5000
    packed = lambda values: sum(value << 16 * place for place, value in enumerate(values)).to_bytes(2 * len(values), "little")
    blocks = (b"\0" + bytes(4)) * ((n - 2) // 128)
    shared = lengths(n, b"\0" + bytes([16, 0, 0, 0]) + packed([long] + 31 * [0]) + blocks, first=0)
    least = unsigned(2 * long - 1)
    added = lengths(n, least + bytes(4 * [16]) + packed([0] + 127 * [long]) + blocks, first=long)
    write("claims_long_text", [text(page(shared + added + b"x" * long, delta_text, n)), (b"x", 5, 0, [page(bytes(8 * n), plain, n)], None)], n)
    # Dictionaries.
    write("claims_dictionary", [text(dictionary(with_lengths, 1 << 30), keys), x])
    of_ids = text(page(with_lengths, plain))
    write("claims_dictionary_of_numbers", [of_ids, (b"x", 5, 0, [dictionary(numbers, 1 << 30), keys], None)])
    # Pages that unpack to less than they say, or to more.
    for codec, name in enumerate(["snappy", "gzip", None, "brotli", "lz4", "zstd", "lz4_raw"], 1):
        if name:
            write(f"claims_2_gib_{name}", [text(page(with_lengths, plain, unpacked=most), codec=codec), x])
    write("holds_more_than_it_says", [text(page(gzip.compress(bytes(1 << 20), mtime=0), plain, unpacked=40), codec=2), x])
    # Lengths, schemas, rows.
    write("claims_fixed_length", [(b"id", 7, 0, [page(bytes(8), plain)], most), x])
    write("claims_children", [of_ids, x], 4, [element(b"schema", children=most), element(b"id", 6), element(b"x", 5)])
    write("claims_levels", [of_ids], 4, [element(b"g", children=1) for _ in range(200)] + [element(b"id", 6)])
    write("claims_rows", [of_ids, x], 1 << 40)


def with_rows(file, rows):
    """The file with another number of rows in its footer: field 3 of FileMetaData, 6 in `file`, a zigzag varint."""
    end = len(file) - 8
    footer = file[end - struct.unpack("<I", file[end : end + 4])[0] : end]
    rest, digits = (rows << 1) ^ (rows >> 63), []
    while True:
        digits.append(rest & 0x7F | (0x80 if rest > 0x7F else 0))
        rest >>= 7
        if not rest:
            break
    assert footer.count(b"\x16\x0c\x19") == 1
    changed = footer.replace(b"\x16\x0c\x19", b"\x16" + bytes(digits) + b"\x19")
    return file[: end - len(footer)] + changed + struct.pack("<I", len(changed)) + b"PAR1"


def id_lists():
    texts = {
        "one": "S1\nS2\nS1\n",
        "two": "F S1\r\nF\tS2\r\n",
        "header": "#FID\tIID\tSEX\nF\tS1\t1\n",
        "comments": "\ufeff# by hand\n\nIID\nS\u00e9\u2003\n",
        "uneven": "S1\nF S2\n",
        "quoted": "\"\",\"x\"\r\"1\",\"S1\"\r\"2\",\"S2, twice\"\r",
        "names": "\"x\"\n\"1\" 12.0\n\"2\" 13.0\n",
        "unclosed": "eid,reason\n\nS1,\"left\nS2,left\"\n",
        "several": "ab0,ab1,ab2\n",
        "empty_before_blank": "\"x\"\n\"\" 13\x7f\x7f\x7f",
    }
    for name, text in texts.items():
        (folder("id_list") / f"{name}.txt").write_bytes(text.encode())
    (folder("id_list") / "utf16.txt").write_bytes("S1\nS2\n".encode("utf-16"))


def texts():
    olink = """SampleID;SampleType;OlinkID;Assay;AssayType;NPX;SampleQC;AssayQC;Normalization
B;SAMPLE;OID2;IL6;assay;1.5;PASS;PASS;Plate control
B;SAMPLE;OID1;TNF;assay;2.5;WARN;NA;Plate control
B;SAMPLE;OID9;Extension control 1;ext_ctrl;3;PASS;NA;Plate control
PC1;PLATE_CONTROL;OID1;TNF;assay;4;PASS;PASS;Plate control
A;SAMPLE;OID1;TNF;assay;NA;PASS;WARN;Intensity
A;SAMPLE;OID2;IL6;assay;0.25;FAIL;PASS;Intensity
"""
    files = {
        "comma.csv": 'id,x,"y, z"\nS1,0.5,NA\nS2,-1e300,true\n"S""3",.,inf\n',
        "semicolon.csv": "\ufeffid;x;t\r\nS1;0.5;a\r\nS2;-9;b\r\n",
        "tab.tsv": "#id\tx\tsite\nS1\t1\tLeeds\nS2\t\tYork\n\n",
        "blanks.txt": "FID IID x\nF  S1 0.5\n F S2 -9\n",
        "ragged.csv": "id,x\nS1,1,2\n",
        "open_quote.csv": 'id,x\n"S1,1\nS2,2\n',
        "repeated.csv": "eid,eid,30001-0.0,x\n1,1,2,3\n-1,1,2,3\n-1,1,2,3\n",
        "olink.csv": olink,
        "biobank.txt": "eid\tins_index\tprotein_id\tresult\n10\t0\t1\t0.5\n10\t0\t2\t1.5\n11\t0\t1\t-0.5\n11\t2\t1\t9\n",
        "coding143.tsv": "coding\tmeaning\n1\tAARSD1;Alanyl-tRNA editing\n2\tABHD14B;x\n",
    }
    for name, text in files.items():
        (folder("text") / name).write_bytes(text.encode())
    for name in ("comma.csv", "olink.csv"):
        (folder("text") / f"{name}.gz").write_bytes(gzip.compress(files[name].encode(), mtime=0))
    long = pa.table({"SampleID": ["A", "A", "B"], "OlinkID": ["O1", "O2", "O1"], "NPX": [0.5, 1.5, 2.5]})
    pq.write_table(long, folder("text") / "olink.parquet", compression="none", store_schema=False, write_statistics=False)
    numbers = pa.table({"eid": [1, 1, 2], "ins_index": [0, 0, 0], "protein_id": [1, 2, 1], "result": [0.5, 1.5, 2.5]})
    pq.write_table(numbers, folder("text") / "biobank.parquet", compression="none", use_dictionary=False, write_statistics=False)


def arrays():
    def description(shape, chunk, kind, fill):
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": kind,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": fill,
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "attributes": {"depth": 2},
            "dimension_names": ["sample", "feature"],
        }

    for kind, letter in (("float32", "f"), ("float64", "d")):
        chunk = struct.pack(f"<4{letter}", 1.5, 2.5, 3.5, 4.5)
        for name, shape, chunks, n, fill in (
            ("square", [4, 4], [2, 2], 4, "NaN"),
            ("edge", [3, 3], [2, 2], 4, 0.0),
            ("single", [2, 2], [2, 2], 1, 0.0),
            ("wide", [1, 4], [1, 4], 1, 0.0),
            ("empty", [0, 4], [1, 4], 0, 0.0),
        ):
            parts = [json.dumps(description(shape, chunks, kind, fill)).encode()] + [chunk + b"="] * n
            (folder("array") / f"{name}_{kind}").write_bytes(b"\n\n".join(parts))
    strange = {
        "codecs": [{"name": "gzip", "configuration": {"level": 1}}],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**62, 2]}},
        "shape": [2**40, 2**40],
        "data_type": "int8",
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}},
        "storage_transformers": [{"name": "none"}],
    }
    for key, value in strange.items():
        text = json.dumps({**description([4, 4], [2, 2], "float32", "NaN"), key: value})
        (folder("array") / f"strange_{key}").write_bytes(text.encode() + (b"\n\n" + chunk[:16] + b"=") * 4)


def spectra():
    whole = {
        "n_samples": 12,
        "n_covariates": 1,
        "dof": 11,
        "trace": 1.5,
        "frobenius_squared": 0.5,
        "block_widths": [2, 2, 2, 2],
        "residual_block_rows": 2,
        "eigenvalues": [0.5, 0.25],
        "residual_norms": [0.125, 0.25],
    }
    changes = {
        "whole": {},
        "narrow": {"block_widths": [1, 1, 2, 2, 2]},
        "no_block": {"block_widths": []},
        "huge": {"block_widths": [2**63, 2**63, 8], "trace": 1e308},
        "none": {"block_widths": [0, 8], "residual_block_rows": 0},
        "negative": {"dof": -1},
    }
    for name, change in changes.items():
        (folder("spectrum") / f"{name}.json").write_text(json.dumps({**whole, **change}))


def networks():
    def tensors(*shapes, dtype="F32", **metadata):
        header, data = {}, b""
        if metadata:
            header["__metadata__"] = metadata
        for name, shape in shapes:
            n = int(np.prod(shape))
            values = struct.pack(f"<{n}{'f' if dtype == 'F32' else 'd'}", *((k % 7 - 3) / 4 for k in range(n)))
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(values)]}
            data += values
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    layers = [("0.weight", (3, 2)), ("0.bias", (3,)), ("2.weight", (1, 3)), ("2.bias", (1,))]
    record = json.dumps({"activation": "gelu", "variances": [2.0, 0.5]})
    files = {
        "relu": tensors(*layers),
        "double": tensors(*layers, dtype="F64"),
        "prefix": tensors(*[(f"net.{name}", shape) for name, shape in layers], activation="tanh"),
        "ntk": tensors(*layers, ntkpipe=record),
        "linear": tensors(("0.weight", (1, 4))),
        "no_values": tensors(("0.weight", (0, 2**40)), ("2.weight", (1, 0))),
        "far_places": tensors(("0.weight", (2, 2)), (f"{2**64 - 1}.weight", (1, 2))),
    }
    for name, file in files.items():
        (folder("network") / f"{name}.safetensors").write_bytes(file)


tables()
hostile_tables()
id_lists()
texts()
arrays()
spectra()
networks()
