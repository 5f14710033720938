//! The header of a Parquet page.

use super::thrift::{self, Compact, Fault};

/// The kind of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    DataV2,
    Dictionary,
    /// A kind that the library skips.
    Other,
}

/// The encoding of values, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// DELTA_LENGTH_BYTE_ARRAY.
    DeltaLengths,
    /// DELTA_BYTE_ARRAY.
    DeltaText,
    /// Any other.
    Other,
}

/// Parquet's `PageHeader` (`parquet.thrift` of the format's version 2.12, read 2026), without its statistics.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageHeader {
    pub(super) kind: Kind,
    /// Bytes of the decompressed page, including levels.
    pub(super) unpacked: u64,
    /// Bytes after the header.
    pub(super) packed: u64,
    /// Values, including nulls.
    pub(super) n_values: u64,
    pub(super) encoding: Encoding,
    /// Whether levels are BIT_PACKED, which does not give their length.
    pub(super) bits_for_levels: bool,
    /// Bytes at the start that are never compressed: levels of a page of version 2.
    pub(super) levels: u64,
    /// Whether the rest is compressed, as the other pages of the column are.
    pub(super) is_packed: bool,
    /// Bytes of the header itself.
    pub(super) length: u64,
}

impl PageHeader {
    /// Reads the header at the start of `bytes`; `None` if the bytes end before the header does.
    ///
    /// Known fields must have their types: the library reads them as such, whatever type they claim.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Fault> {
        match Self::whole(bytes) {
            Ok(header) => Ok(Some(header)),
            Err(Fault::CutShort) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    fn whole(bytes: &[u8]) -> Result<Self, Fault> {
        let mut header = Self {
            kind: Kind::Other,
            unpacked: 0,
            packed: 0,
            n_values: 0,
            encoding: Encoding::Other,
            bits_for_levels: false,
            levels: 0,
            is_packed: true,
            length: 0,
        };
        let mut it = Compact::new(bytes);
        it.fields(|it, number, kind| {
            let is_known = match number {
                1..=4 => kind.is_integer(),
                5..=8 => kind == thrift::Kind::STRUCT,
                _ => true,
            };
            match number {
                _ if !is_known => return Err(Fault::Damaged),
                1 => {
                    header.kind = match it.int()? {
                        0 => Kind::Data,
                        2 => Kind::Dictionary,
                        3 => Kind::DataV2,
                        _ => Kind::Other,
                    }
                }
                2 => header.unpacked = it.size()?,
                3 => header.packed = it.size()?,
                5 => header.read_data(it)?,
                7 => header.read_dictionary(it)?,
                8 => header.read_data_v2(it)?,
                _ => it.skip(kind)?,
            }
            Ok(())
        })?;
        header.length = it.at as u64;
        Ok(header)
    }

    /// `DataPageHeader`.
    fn read_data(&mut self, it: &mut Compact<'_>) -> Result<(), Fault> {
        it.fields(|it, number, kind| {
            match number {
                1..=4 if !kind.is_integer() => return Err(Fault::Damaged),
                1 => self.n_values = it.size()?,
                2 => self.encoding = encoding(it.int()?),
                3 => self.bits_for_levels = it.int()? == 4,
                _ => it.skip(kind)?,
            }
            Ok(())
        })
    }

    /// `DictionaryPageHeader`.
    fn read_dictionary(&mut self, it: &mut Compact<'_>) -> Result<(), Fault> {
        it.fields(|it, number, kind| {
            match number {
                1..=2 if !kind.is_integer() => return Err(Fault::Damaged),
                1 => self.n_values = it.size()?,
                _ => it.skip(kind)?,
            }
            Ok(())
        })
    }

    /// `DataPageHeaderV2`.
    fn read_data_v2(&mut self, it: &mut Compact<'_>) -> Result<(), Fault> {
        it.fields(|it, number, kind| {
            match (number, kind.truth()) {
                (1..=6, _) if !kind.is_integer() => return Err(Fault::Damaged),
                (7, None) => return Err(Fault::Damaged),
                (1, _) => self.n_values = it.size()?,
                (4, _) => self.encoding = encoding(it.int()?),
                (5 | 6, _) => self.levels += it.size()?,
                (7, Some(truth)) => self.is_packed = truth,
                _ => it.skip(kind)?,
            }
            Ok(())
        })
    }
}

fn encoding(number: i32) -> Encoding {
    match number {
        6 => Encoding::DeltaLengths,
        7 => Encoding::DeltaText,
        _ => Encoding::Other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_version_2_is_read_and_cut_short_is_said() {
        let bytes = [
            0x15, 6, 0x15, 200, 1, 0x15, 40, // DATA_PAGE_V2, 100 bytes, 20 packed
            0x5c, 0x15, 14, 0x15, 2, 0x15, 14, 0x15, 14, 0x15, 6, 0x15, 0, 0x12, 0, 0, 99,
        ];
        let header = PageHeader::read(&bytes).unwrap().unwrap();
        assert_eq!(
            (header.kind, header.unpacked, header.packed),
            (Kind::DataV2, 100, 20)
        );
        assert_eq!((header.n_values, header.encoding), (7, Encoding::DeltaText));
        assert_eq!((header.levels, header.is_packed), (3, false));
        assert_eq!(header.length as usize, bytes.len() - 1);
        assert!(PageHeader::read(&bytes[..10]).unwrap().is_none());
        // A size below 0; a size that is text.
        PageHeader::read(&[0x15, 0, 0x15, 1, 0]).unwrap_err();
        PageHeader::read(&[0x15, 0, 0x18, 1, 0]).unwrap_err();
    }
}
