//! The pages of a Parquet file, each checked before the library allocates memory for its content.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use parquet::basic::{Compression, Type};
use parquet::column::page::PageReader as _;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::reader::{ChunkReader, Length, SerializedPageReader};
use parquet::schema::types::{ColumnDescPtr, ColumnDescriptor};

use super::delta;
use super::page_header::{Encoding, Kind, PageHeader};
use crate::memory::free_memory;
use crate::words::counted;

/// Most bytes of a value that is stored once for many rows, or of a value of fixed length. Ids, levels and names are far
/// shorter.
const LONGEST_VALUE: u64 = 4096;

/// Bytes of a page that are allocated without a check of free memory.
const USUAL_PAGE: u64 = 64 << 20;

/// Bytes that are read to find the header of a page: at first, and at most.
const SEARCHED: [u64; 2] = [256, 64 << 20];

/// The compression of each column in each row group of a file.
pub(super) type Compressions = Vec<Vec<Compression>>;

/// Removes compression from the metadata, as the library needs it to read a [`CheckedFile`].
pub(super) fn uncompressed(metadata: ParquetMetaData) -> Result<(ParquetMetaData, Compressions)> {
    let mut builder = metadata.into_builder();
    let mut compressions = Compressions::new();
    let mut groups = Vec::new();
    for group in builder.take_row_groups() {
        let mut group = group.into_builder();
        let columns = group.take_columns();
        compressions.push(columns.iter().map(|it| it.compression()).collect());
        let plain = columns.into_iter().map(|chunk| {
            let chunk = chunk.into_builder();
            chunk.set_compression(Compression::UNCOMPRESSED).build()
        });
        let plain = plain.collect::<Result<Vec<_>>>()?;
        groups.push(group.set_column_metadata(plain).build()?);
    }
    Ok((builder.set_row_groups(groups).build(), compressions))
}

/// A file from which the library reads some columns page by page, and gets each page decompressed. The header of a page is
/// checked against the file before the page is decompressed, and the page against its header before it is decoded.
pub(super) struct CheckedFile<R> {
    file: Arc<R>,
    length: u64,
    /// In order of their places, which do not overlap.
    chunks: Vec<Chunk>,
}

impl<R: ChunkReader> CheckedFile<R> {
    /// Takes a file, its metadata from [`uncompressed`], and the row groups and leaf columns that will be read.
    pub(super) fn new(
        file: R,
        metadata: &ParquetMetaData,
        compressions: &Compressions,
        groups: &[usize],
        columns: &[usize],
    ) -> Result<Self> {
        let length = file.len();
        let mut chunks = Vec::with_capacity(groups.len() * columns.len());
        for &place in groups {
            let group = metadata.row_group(place);
            for &column in columns {
                let chunk = group.column(column);
                let compression = compressions[place][column];
                let made = Chunk::new(chunk, compression, group.num_rows(), length);
                chunks.push(made.map_err(|error| named(chunk.column_descr(), error))?);
            }
        }
        chunks.sort_by_key(|chunk| (chunk.place.start, chunk.place.end));
        for pair in chunks.windows(2) {
            if pair[1].place.start < pair[0].place.end {
                let text = "its values begin among those of another".to_owned();
                return Err(named(&pair[1].column, ParquetError::General(text)));
            }
        }
        Ok(Self {
            file: Arc::new(file),
            length,
            chunks,
        })
    }

    /// The chunk that contains the byte at `start`, or ends there.
    fn chunk(&self, start: u64) -> Result<&Chunk> {
        let after = self
            .chunks
            .partition_point(|chunk| chunk.place.start <= start);
        let found = self.chunks[..after].last();
        match found.filter(|chunk| start <= chunk.place.end) {
            Some(chunk) => Ok(chunk),
            None => refuse("a page outside of the columns".to_owned()),
        }
    }

    /// Reads the header at `start`.
    fn read_header(&self, start: u64, end: u64) -> Result<(PageHeader, Bytes)> {
        let left = end - start;
        let [mut n, most] = SEARCHED;
        loop {
            let bytes = self.file.get_bytes(start, n.min(left) as usize)?;
            match PageHeader::read(&bytes) {
                Ok(Some(header)) => return Ok((header, bytes)),
                Ok(None) if n < left && n < most => n *= 16,
                _ => return refuse("a page without header".to_owned()),
            }
        }
    }
}

impl<R: ChunkReader> Length for CheckedFile<R> {
    fn len(&self) -> u64 {
        self.length
    }
}

impl<R: ChunkReader> ChunkReader for CheckedFile<R> {
    type T = std::io::Chain<Cursor<Bytes>, Later<R>>;

    /// The library asks here for headers, and also for the bytes after a header that it has read before, which it does not use.
    fn get_read(&self, start: u64) -> Result<Self::T> {
        let chunk = self.chunk(start)?;
        let mut bytes = Bytes::new();
        if start < chunk.place.end && !chunk.is_body(start) {
            let read = || {
                let (header, bytes) = self.read_header(start, chunk.place.end)?;
                chunk.check_size(&header)?;
                Ok((header, bytes))
            };
            let (header, read) = read().map_err(|error| named(&chunk.column, error))?;
            let head = read.slice(..header.length as usize);
            let body = start + header.length;
            chunk.pages().headers.insert(body, (header, head));
            bytes = read;
        }
        let rest = Later {
            file: self.file.clone(),
            at: start + bytes.len() as u64,
            open: None,
        };
        Ok(Cursor::new(bytes).chain(rest))
    }

    /// The library asks here for the bytes after a header.
    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let chunk = self.chunk(start)?;
        let read = || {
            let known = chunk.pages().headers.remove(&start);
            let Some((header, head)) = known.filter(|it| it.0.packed == length as u64) else {
                return refuse("a page without header".to_owned());
            };
            if start + header.packed > chunk.place.end {
                return refuse("a page that is longer than its column".to_owned());
            }
            let body = self.file.get_bytes(start, length)?;
            let unpacked = chunk.unpack(&header, head, body)?;
            chunk.check_page(&header, &unpacked)?;
            Ok(unpacked)
        };
        read().map_err(|error| named(&chunk.column, error))
    }
}

/// Bytes of a file from a place on; the file is opened only when they are read.
pub(super) struct Later<R: ChunkReader> {
    file: Arc<R>,
    at: u64,
    open: Option<R::T>,
}

impl<R: ChunkReader> Read for Later<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(self.file.get_read(self.at)?),
        };
        open.read(buffer)
    }
}

/// Puts the name of the column before the error.
fn named(column: &ColumnDescriptor, error: ParquetError) -> ParquetError {
    let text = match error {
        ParquetError::General(text) | ParquetError::EOF(text) => text,
        other => other.to_string(),
    };
    ParquetError::General(format!("column `{}`: {text}", column.path().string()))
}

fn refuse<T>(text: String) -> Result<T> {
    Err(ParquetError::General(text))
}

/// The values of a column in one row group.
struct Chunk {
    place: Range<u64>,
    column: ColumnDescPtr,
    compression: Compression,
    pages: Mutex<Pages>,
}

/// The pages of a chunk that were requested.
struct Pages {
    /// Headers with their bytes, by the place after the header, until their page is read.
    headers: HashMap<u64, (PageHeader, Bytes)>,
    /// Values that further pages may claim to hold.
    n_left: u64,
}

impl Chunk {
    fn new(
        chunk: &ColumnChunkMetaData,
        compression: Compression,
        n_rows: i64,
        file_length: u64,
    ) -> Result<Self> {
        let column = chunk.column_descr_ptr();
        let length = column.type_length();
        let is_fixed = column.physical_type() == Type::FIXED_LEN_BYTE_ARRAY;
        if is_fixed && !u64::try_from(length).is_ok_and(|it| it <= LONGEST_VALUE) {
            return refuse(format!(
                "values of {length} bytes each; up to {LONGEST_VALUE} are read"
            ));
        }
        if column.max_rep_level() > 0 {
            return refuse("a list in every row".to_owned());
        }
        let (start, length) = chunk.byte_range();
        match start.checked_add(length) {
            Some(end) if end <= file_length => Ok(Self {
                place: start..end,
                column,
                compression,
                pages: Mutex::new(Pages {
                    headers: HashMap::new(),
                    n_left: u64::try_from(n_rows).unwrap_or(0),
                }),
            }),
            _ => refuse("its values are beyond the end of the file".to_owned()),
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a page body starts at `start`, after its header. If the page has no bytes, the next header is at the same place.
    fn is_body(&self, start: u64) -> bool {
        let pages = self.pages();
        let known = pages.headers.get(&start);
        known.is_some_and(|(header, _)| header.packed > 0)
    }

    /// Refuses sizes that no compression can reach, or for which there is not enough memory.
    fn check_size(&self, header: &PageHeader) -> Result<()> {
        if self.compression == Compression::UNCOMPRESSED || !header.is_packed {
            return Ok(());
        }
        // The most bytes that one byte can stand for. Snappy: a copy of 64 bytes takes 3 (its format description). LZ4: a byte
        // extends the length of a match (its block format). Deflate: 258 bytes take 2 bits (RFC 1951). Zstandard: a block of
        // 128 KiB takes 4 bytes (RFC 8878).
        let most = match self.compression {
            Compression::SNAPPY => 22,
            Compression::LZ4 | Compression::LZ4_RAW => 255,
            Compression::GZIP(_) => 1032,
            Compression::ZSTD(_) => 32 << 10,
            _ => u64::MAX,
        };
        if header.unpacked > header.packed.saturating_mul(most).saturating_add(64) {
            return refuse(format!(
                "a page of {} bytes that says it holds {}, more than {} can",
                header.packed, header.unpacked, self.compression
            ));
        }
        if header.unpacked > USUAL_PAGE && free_memory().is_some_and(|it| header.unpacked > it) {
            return refuse(format!(
                "a page of {} MiB, for which there is no memory",
                header.unpacked >> 20
            ));
        }
        Ok(())
    }

    /// The content of a page with its levels; `head` is the header as it is in the file.
    fn unpack(&self, header: &PageHeader, head: Bytes, body: Bytes) -> Result<Bytes> {
        match self.compression {
            Compression::UNCOMPRESSED => Ok(body),
            _ if !header.is_packed => Ok(body),
            // The library decompresses these to their end, however long that is.
            Compression::GZIP(_) => inflate(header, &body, |it| Box::new(MultiGzDecoder::new(it))),
            Compression::BROTLI(_) => inflate(header, &body, |it| {
                Box::new(brotli::Decompressor::new(it, 4096))
            }),
            _ => {
                let length = (head.len() + body.len()) as i64;
                let chunk = ColumnChunkMetaData::builder(self.column.clone())
                    .set_compression(self.compression)
                    .set_data_page_offset(0)
                    .set_total_compressed_size(length)
                    .build()?;
                let page = Arc::new(OnePage { head, body });
                let page = SerializedPageReader::new(page, &chunk, 0, None)?.get_next_page()?;
                match page {
                    Some(page) => Ok(page.buffer().clone()),
                    None => refuse("a page of no known kind".to_owned()),
                }
            }
        }
    }

    /// Refuses a page whose bytes cannot hold its values.
    fn check_page(&self, header: &PageHeader, bytes: &[u8]) -> Result<()> {
        if header.kind == Kind::Dictionary {
            return self.check_dictionary(bytes, header.n_values);
        }
        let mut pages = self.pages();
        let Some(left) = pages.n_left.checked_sub(header.n_values) else {
            return refuse(format!(
                "a page that says it holds {}, of the {} that are left of its row group",
                counted(header.n_values as usize, "values"),
                pages.n_left
            ));
        };
        pages.n_left = left;
        let longest = match header.encoding {
            Encoding::Other => Ok(0),
            encoding => match self.without_levels(header, bytes)? {
                // A page of nulls may have no values.
                [] => Ok(0),
                values if encoding == Encoding::DeltaText => {
                    delta::longest(values, header.n_values)
                }
                values => delta::Header::read(values, header.n_values).map(|_| 0),
            },
        };
        check_length(longest.map_err(ParquetError::General)?)
    }

    fn check_dictionary(&self, bytes: &[u8], n_values: u64) -> Result<()> {
        let width = match self.column.physical_type() {
            Type::BOOLEAN => 1,
            Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 => 12,
            Type::FIXED_LEN_BYTE_ARRAY => u64::from(self.column.type_length().unsigned_abs()),
        };
        if n_values.saturating_mul(width.max(1)) > bytes.len() as u64 {
            return refuse(format!(
                "a dictionary of {n_values} values in {} bytes",
                bytes.len()
            ));
        }
        if self.column.physical_type() != Type::BYTE_ARRAY {
            return Ok(());
        }
        let mut rest = bytes;
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = u32::from_le_bytes(*length);
            check_length(u64::from(length))?;
            let Some(next) = after.get(length as usize..) else {
                break;
            };
            rest = next;
        }
        Ok(())
    }

    /// The bytes of a data page that hold values.
    fn without_levels<'p>(&self, header: &PageHeader, bytes: &'p [u8]) -> Result<&'p [u8]> {
        let has_levels = self.column.max_def_level() > 0;
        let start = match (header.kind, bytes.first_chunk()) {
            (Kind::DataV2, _) => Some(header.levels),
            _ if !has_levels => Some(0),
            _ if header.bits_for_levels => {
                // BIT_PACKED, in old files: a number of bits per value, without a length.
                let bits = i16::BITS - self.column.max_def_level().leading_zeros();
                Some((header.n_values * u64::from(bits)).div_ceil(8))
            }
            (_, Some(length)) => Some(4 + u64::from(u32::from_le_bytes(*length))),
            (_, None) => None,
        };
        let start = start.and_then(|start| usize::try_from(start).ok());
        match start.and_then(|start| bytes.get(start..)) {
            Some(values) => Ok(values),
            None => refuse("a page whose levels are longer than itself".to_owned()),
        }
    }
}

/// Decompresses a page without its levels, up to the length in its header.
fn inflate<'b>(
    header: &PageHeader,
    body: &'b Bytes,
    reader: impl FnOnce(&'b [u8]) -> Box<dyn Read + 'b>,
) -> Result<Bytes> {
    let Some((levels, packed)) = body.split_at_checked(header.levels as usize) else {
        return refuse("a page whose levels are longer than itself".to_owned());
    };
    let Some(left) = header.unpacked.checked_sub(header.levels) else {
        return refuse("a page whose levels are longer than itself".to_owned());
    };
    let mut unpacked = Vec::with_capacity(header.unpacked.min(USUAL_PAGE) as usize);
    unpacked.extend_from_slice(levels);
    if left > 0 {
        let reader = reader(packed);
        reader.take(left + 1).read_to_end(&mut unpacked)?;
    }
    match (unpacked.len() as u64).cmp(&header.unpacked) {
        std::cmp::Ordering::Equal => Ok(unpacked.into()),
        found => refuse(format!(
            "a page that says it holds {} bytes and holds {}",
            header.unpacked,
            match found.is_gt() {
                true => "more".to_owned(),
                false => unpacked.len().to_string(),
            }
        )),
    }
}

fn check_length(length: u64) -> Result<()> {
    match length <= LONGEST_VALUE {
        true => Ok(()),
        false => refuse(format!(
            "text of {length} bytes that may stand in many rows; up to {LONGEST_VALUE} are read"
        )),
    }
}

/// A single page that the library reads: header and body.
struct OnePage {
    head: Bytes,
    body: Bytes,
}

impl Length for OnePage {
    fn len(&self) -> u64 {
        (self.head.len() + self.body.len()) as u64
    }
}

impl ChunkReader for OnePage {
    type T = Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        match start {
            0 => Ok(Cursor::new(self.head.clone())),
            _ => refuse("more than a page".to_owned()),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        match (start as usize, length) == (self.head.len(), self.body.len()) {
            true => Ok(self.body.clone()),
            false => refuse("more than a page".to_owned()),
        }
    }
}
