//! Lengths of text in Parquet's delta encodings, checked before the library allocates memory for them.

use super::thrift::{Compact, Fault};

/// Most values of a block. Writers take 128 to 2,048; a few bytes can stand for a block whose values are all alike.
const LARGEST_BLOCK: u64 = 1 << 15;

/// The start of a stream of integers (Parquet format, "Delta encoding", read 2026): the number of values, blocks and
/// miniblocks.
#[derive(Debug)]
pub(super) struct Header {
    /// Number of values the stream claims to hold.
    pub(super) n_values: u64,
    /// Values of a block, a multiple of 128.
    block: u64,
    /// Miniblocks of a block, each with its own width in bits.
    miniblocks: u64,
    first: i64,
    /// Bytes of the header.
    length: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`. Refuses more than `most` values, and more blocks than fit into `bytes`.
    ///
    /// Cost: a few bytes.
    pub(super) fn read(bytes: &[u8], most: u64) -> Result<Self, String> {
        let mut it = Compact::new(bytes);
        let mut numbers = || -> Result<Self, Fault> {
            Ok(Self {
                block: it.unsigned()?,
                miniblocks: it.unsigned()?,
                n_values: it.unsigned()?,
                first: it.signed()?,
                length: it.at,
            })
        };
        let header = numbers().map_err(|_| "a delta encoding without header".to_owned())?;
        let Self {
            block, miniblocks, ..
        } = header;
        let is_block = (1..=LARGEST_BLOCK).contains(&block) && block % 128 == 0;
        if !is_block || miniblocks == 0 || block % miniblocks != 0 || block / miniblocks % 32 != 0 {
            return Err(format!(
                "a delta encoding in blocks of {block} values and {miniblocks} parts"
            ));
        }
        if header.n_values > most {
            return Err(format!(
                "{} lengths of text in a page of {most} values",
                header.n_values
            ));
        }
        // Each block takes at least one byte for the smallest difference, and one byte per miniblock for its width.
        let n_blocks = header.n_values.saturating_sub(1).div_ceil(block);
        let least = n_blocks.saturating_mul(1 + miniblocks);
        if least > (bytes.len() - header.length) as u64 {
            return Err(format!(
                "{} lengths of text in {} bytes, which are too few",
                header.n_values,
                bytes.len()
            ));
        }
        Ok(header)
    }

    /// Decodes the stream at the start of `bytes` that this header describes. Returns the values, and where the stream ends.
    ///
    /// Cost: one pass over its bits.
    fn values(&self, bytes: &[u8]) -> Result<(Vec<i64>, usize), String> {
        let short = |_| "a delta encoding that is cut short".to_owned();
        let mut values = Vec::with_capacity(self.n_values as usize);
        let mut last = self.first;
        if self.n_values > 0 {
            values.push(last);
        }
        let part = (self.block / self.miniblocks) as usize;
        let mut at = self.length;
        while (values.len() as u64) < self.n_values {
            let mut it = Compact::new(&bytes[at..]);
            let least = it.signed().map_err(short)?;
            let widths_at = at + it.at;
            at = widths_at + self.miniblocks as usize;
            let Some(widths) = bytes.get(widths_at..at) else {
                return Err(short(Fault::CutShort));
            };
            for &width in widths {
                let left = self.n_values as usize - values.len();
                // The widths of miniblocks without values have no meaning.
                if left == 0 {
                    break;
                }
                if width > 32 {
                    return Err(format!("lengths of {width} bits"));
                }
                let end = at + part * usize::from(width) / 8;
                let Some(bits) = bytes.get(at..end) else {
                    return Err(short(Fault::CutShort));
                };
                at = end;
                for place in 0..part.min(left) {
                    let difference = unpacked(bits, place * usize::from(width), width);
                    last = last.wrapping_add(least).wrapping_add(difference);
                    // In 32 bits, as the library counts.
                    last = i64::from(last as i32);
                    values.push(last);
                }
            }
        }
        Ok((values, at))
    }
}

/// `width` bits from number `from` on, lowest first.
fn unpacked(bits: &[u8], from: usize, width: u8) -> i64 {
    let mut eight = [0; 8];
    let start = from / 8;
    let n = (bits.len() - start).min(8);
    eight[..n].copy_from_slice(&bits[start..start + n]);
    let shifted = u64::from_le_bytes(eight) >> (from % 8);
    (shifted & ((1 << width) - 1)) as i64
}

/// The length of the longest of at most `most` values in `bytes`, encoded as DELTA_BYTE_ARRAY: the lengths of the prefix that
/// each value shares with the one before, then the lengths and text of the rest.
///
/// Cost: one pass over both lists of lengths, and memory for them.
pub(super) fn longest(bytes: &[u8], most: u64) -> Result<u64, String> {
    let shared = Header::read(bytes, most)?;
    let (prefixes, end) = shared.values(bytes)?;
    let rest = &bytes[end.min(bytes.len())..];
    let added = Header::read(rest, most)?;
    if added.n_values != shared.n_values {
        return Err(format!(
            "{} lengths of beginnings and {} of endings",
            shared.n_values, added.n_values
        ));
    }
    let (suffixes, _) = added.values(rest)?;
    let lengths = prefixes.iter().zip(&suffixes);
    let longest = lengths.map(|(prefix, suffix)| (prefix.max(&0) + suffix.max(&0)) as u64);
    Ok(longest.max().unwrap_or(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The example in the format's specification: 7, 5, 3, 1, 2, 3, 4, 5 in one block of 128 with 4 miniblocks.
    const EXAMPLE: [u8; 18] = [128, 1, 4, 8, 14, 3, 2, 0, 0, 0, 192, 63, 0, 0, 0, 0, 0, 0];

    #[test]
    fn the_example_of_the_specification_is_decoded() {
        let header = Header::read(&EXAMPLE, 8).unwrap();
        let (values, end) = header.values(&EXAMPLE).unwrap();
        assert_eq!((values, end), (vec![7, 5, 3, 1, 2, 3, 4, 5], 18));
    }

    #[test]
    fn counts_that_the_bytes_cannot_hold_are_refused() {
        let said = |bytes: &[u8]| Header::read(bytes, u64::MAX).unwrap_err();
        let beyond = Header::read(&EXAMPLE, 7).unwrap_err();
        assert_eq!(beyond, "8 lengths of text in a page of 7 values");
        // 2^51 values.
        let mut many = vec![128, 1, 4];
        many.extend([
            0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 4, 0, 0, 0, 0, 0, 0,
        ]);
        assert!(
            said(&many).contains("2251799813685248 lengths"),
            "{}",
            said(&many)
        );
        // As many, in one block.
        many[..2].copy_from_slice(&[0xff, 0x7f]);
        assert!(said(&many).contains("in blocks of"), "{}", said(&many));
        assert!(said(&[128, 1, 0, 1, 0]).contains("0 parts"));
        assert!(said(&[128, 1]).contains("without header"));
    }
}
