//! Thrift's compact protocol, as far as Parquet's footer and page headers use it.

/// Most levels of nested structures; Parquet's own have five.
const MOST_LEVELS: usize = 32;

/// Why bytes are not a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// They end before the structure does.
    CutShort,
    /// No continuation makes them a structure.
    Damaged,
}

/// The type of a field or of a list's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    pub(super) const BINARY: Self = Self(8);
    pub(super) const LIST: Self = Self(9);
    pub(super) const STRUCT: Self = Self(12);

    /// Whether it is one of the integers, which are all written in the same way.
    pub(super) fn is_integer(self) -> bool {
        (4..=6).contains(&self.0)
    }

    /// The value of a boolean field, which is part of its type.
    pub(super) fn truth(self) -> Option<bool> {
        match self.0 {
            1 => Some(true),
            2 => Some(false),
            _ => None,
        }
    }
}

/// A position in bytes of the compact protocol (Thrift's specification, "Compact protocol encoding", read 2026).
#[derive(Debug)]
pub(super) struct Compact<'b> {
    bytes: &'b [u8],
    /// Bytes read.
    pub(super) at: usize,
}

impl<'b> Compact<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.bytes.get(self.at).ok_or(Fault::CutShort)?;
        self.at += 1;
        Ok(byte)
    }

    fn pass(&mut self, n: u64) -> Result<(), Fault> {
        let n = usize::try_from(n).map_err(|_| Fault::CutShort)?;
        let end = self.at.checked_add(n).ok_or(Fault::CutShort)?;
        match end <= self.bytes.len() {
            true => self.at = end,
            false => return Err(Fault::CutShort),
        }
        Ok(())
    }

    /// An unsigned integer in groups of seven bits, lowest first.
    pub(super) fn unsigned(&mut self) -> Result<u64, Fault> {
        let mut value = 0_u64;
        for group in 0..10 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * group);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Damaged)
    }

    /// A signed integer of 32 bits; damaged if it needs more.
    pub(super) fn int(&mut self) -> Result<i32, Fault> {
        i32::try_from(self.signed()?).map_err(|_| Fault::Damaged)
    }

    /// A number of bytes or values; damaged if it is negative.
    pub(super) fn size(&mut self) -> Result<u64, Fault> {
        u64::try_from(self.int()?).map_err(|_| Fault::Damaged)
    }

    /// A signed integer: 0, -1, 1, -2 are written as 0, 1, 2, 3.
    pub(super) fn signed(&mut self) -> Result<i64, Fault> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The next field of a structure after number `last`: number and type; `None` at its end.
    fn field(&mut self, last: i16) -> Result<Option<(i16, Kind)>, Fault> {
        let byte = self.byte()?;
        let (more, kind) = (byte >> 4, Kind(byte & 15));
        let number = match more {
            _ if kind == Kind(0) => return Ok(None),
            0 => i16::try_from(self.signed()?).ok(),
            more => last.checked_add(i16::from(more)),
        };
        Ok(Some((number.ok_or(Fault::Damaged)?, kind)))
    }

    /// The start of a list: number of elements and their type.
    pub(super) fn list(&mut self) -> Result<(u64, Kind), Fault> {
        let byte = self.byte()?;
        let n = match byte >> 4 {
            15 => self.unsigned()?,
            few => u64::from(few),
        };
        Ok((n, Kind(byte & 15)))
    }

    /// Reads the fields of a structure to its end. `read` gets number and type, and reads or skips the value.
    pub(super) fn fields(
        &mut self,
        mut read: impl FnMut(&mut Self, i16, Kind) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut last = 0;
        while let Some((number, kind)) = self.field(last)? {
            read(self, number, kind)?;
            last = number;
        }
        Ok(())
    }

    /// Skips the value of a field.
    pub(super) fn skip(&mut self, kind: Kind) -> Result<(), Fault> {
        self.skip_within(kind, MOST_LEVELS)
    }

    fn skip_within(&mut self, kind: Kind, levels: usize) -> Result<(), Fault> {
        let levels = levels.checked_sub(1).ok_or(Fault::Damaged)?;
        match kind.0 {
            1 | 2 => Ok(()),
            3 => self.pass(1),
            4..=6 => self.unsigned().map(drop),
            7 => self.pass(8),
            8 => {
                let n = self.unsigned()?;
                self.pass(n)
            }
            9 | 10 => {
                let (n, kind) = self.list()?;
                (0..n).try_for_each(|_| self.skip_element(kind, levels))
            }
            11 => {
                let n = self.unsigned()?;
                let kinds = if n == 0 { 0 } else { self.byte()? };
                (0..n).try_for_each(|_| {
                    self.skip_element(Kind(kinds >> 4), levels)?;
                    self.skip_element(Kind(kinds & 15), levels)
                })
            }
            12 => self.fields(|it, _, kind| it.skip_within(kind, levels)),
            _ => Err(Fault::Damaged),
        }
    }

    /// Skips an element of a list, in which a boolean takes one byte.
    fn skip_element(&mut self, kind: Kind, levels: usize) -> Result<(), Fault> {
        match kind.truth() {
            Some(_) => self.pass(1),
            None => self.skip_within(kind, levels),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_of_every_type_is_passed_over_and_cut_short_is_said() {
        let bytes = [
            0x11, // 1: true
            0x13, 7, // 2: a byte
            0x15, 0x96, 0x01, // 3: 75
            0x17, 0, 0, 0, 0, 0, 0, 0, 0, // 4: a double
            0x18, 2, b'a', b'b', // 5: text
            0x19, 0x31, 1, 2, 1, // 6: three booleans
            0x1b, 1, 0x55, 2, 4, // 7: a map of one pair
            0x1c, 0x15, 2, 0, // 8: a structure
            0x05, 0x2a, 3, // 21: -2
            0,
        ];
        let mut it = Compact::new(&bytes);
        let mut seen = Vec::new();
        it.fields(|it, number, kind| {
            match kind.is_integer() {
                true => seen.push((number, it.signed()?)),
                false => it.skip(kind)?,
            }
            Ok(())
        })
        .unwrap();
        assert_eq!((seen, it.at), (vec![(3, 75), (21, -2)], bytes.len()));
        for end in 0..bytes.len() {
            let mut it = Compact::new(&bytes[..end]);
            assert_eq!(it.skip(Kind::STRUCT), Err(Fault::CutShort), "{end}");
        }
    }

    #[test]
    fn structures_without_end_are_damaged() {
        assert_eq!(
            Compact::new(&[0x1c; 10_000]).skip(Kind::STRUCT),
            Err(Fault::Damaged)
        );
        assert_eq!(Compact::new(&[0xff; 20]).unsigned(), Err(Fault::Damaged));
        let many = [0xf5, 0xff, 0xff, 0xff, 0xff, 0x7f, 0];
        assert_eq!(Compact::new(&many).skip(Kind::LIST), Err(Fault::CutShort));
    }
}
