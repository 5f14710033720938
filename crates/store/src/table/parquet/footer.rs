//! The footer of a Parquet file, checked before the library makes a schema of it.

use std::io::{Read, Seek, SeekFrom};

use parquet::errors::{ParquetError, Result};

use super::thrift::{Compact, Fault, Kind};

/// Most levels of nested groups of columns: the library follows them by recursion, without a limit.
const MOST_LEVELS: usize = 64;

/// Bytes of the footer's length and of the four letters after it.
const TAIL: u64 = 8;

/// Refuses a schema whose groups claim more columns than there are, or are nested too deeply.
///
/// The library itself reports a file without a footer. Cost: one pass over the bytes of the schema.
pub(super) fn check(mut file: impl Read + Seek) -> Result<()> {
    let length = file.seek(SeekFrom::End(0))?;
    let Some(tail_at) = length.checked_sub(TAIL) else {
        return Ok(());
    };
    file.seek(SeekFrom::Start(tail_at))?;
    let mut tail = [0; TAIL as usize];
    file.read_exact(&mut tail)?;
    let [a, b, c, d, letters @ ..] = tail;
    if letters != *b"PAR1" {
        return Ok(());
    }
    let n = u64::from(u32::from_le_bytes([a, b, c, d]));
    let Some(start) = tail_at.checked_sub(n) else {
        return Ok(());
    };
    file.seek(SeekFrom::Start(start))?;
    let mut footer = Vec::new();
    file.take(n).read_to_end(&mut footer)?;
    let children =
        children(&footer).map_err(|_| ParquetError::General("its footer is damaged".to_owned()))?;
    check_tree(&children).map_err(ParquetError::General)
}

/// The number of children that each element of the schema claims, in depth-first order.
///
/// Fields must have the types of Parquet's `parquet.thrift`: the library reads them as such, whatever type they claim.
fn children(footer: &[u8]) -> Result<Vec<i32>, Fault> {
    let mut children = Vec::new();
    Compact::new(footer).fields(|it, number, kind| {
        let expected = match number {
            1 | 3 => kind.is_integer(),
            2 | 4 | 5 | 7 => kind == Kind::LIST,
            6 | 9 => kind == Kind::BINARY,
            8 => kind == Kind::STRUCT,
            _ => true,
        };
        match (expected, number) {
            (false, _) => Err(Fault::Damaged),
            (true, 2) => read_schema(it, &mut children),
            (true, _) => it.skip(kind),
        }
    })?;
    Ok(children)
}

/// Reads the list of `SchemaElement`s at the current place of `it`.
fn read_schema(it: &mut Compact<'_>, children: &mut Vec<i32>) -> Result<(), Fault> {
    let (n, kind) = it.list()?;
    if n > 0 && kind != Kind::STRUCT {
        return Err(Fault::Damaged);
    }
    for _ in 0..n {
        let mut own = 0;
        it.fields(|it, number, kind| {
            let expected = match number {
                1..=3 | 5..=9 => kind.is_integer(),
                4 => kind == Kind::BINARY,
                10 => kind == Kind::STRUCT,
                _ => true,
            };
            match (expected, number) {
                (false, _) => Err(Fault::Damaged),
                (true, 5) => it.int().map(|n| own = n),
                (true, _) => it.skip(kind),
            }
        })?;
        children.push(own);
    }
    Ok(())
}

/// Walks the tree that these numbers of children describe.
fn check_tree(children: &[i32]) -> Result<(), String> {
    // Children still to come, for each group around the current place.
    let mut open: Vec<i32> = Vec::new();
    for (place, &own) in children.iter().enumerate() {
        let left = children.len() - place - 1;
        if usize::try_from(own).is_ok_and(|own| own > left) || own < 0 {
            return Err(format!(
                "its schema has a group of {own} columns where {left} are left"
            ));
        }
        if let Some(siblings) = open.last_mut() {
            *siblings -= 1;
        }
        if own > 0 {
            open.push(own);
        }
        if open.len() > MOST_LEVELS {
            return Err(format!(
                "its schema has groups within groups of columns, more than {MOST_LEVELS} deep"
            ));
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn trees_that_are_none_are_refused() {
        check_tree(&[]).unwrap();
        check_tree(&[2, 0, 0]).unwrap();
        check_tree(&[2, 2, 0, 0, 1, 0]).unwrap();
        // Many siblings, each a group of one.
        let mut wide = vec![1000];
        wide.extend([1, 0].repeat(1000));
        check_tree(&wide).unwrap();
        let said = check_tree(&[2, i32::MAX, 0]).unwrap_err();
        assert!(
            said.contains("2147483647 columns where 1 are left"),
            "{said}"
        );
        check_tree(&[-1, 0]).unwrap_err();
        let mut deep = vec![1; 100_000];
        deep.push(0);
        let said = check_tree(&deep).unwrap_err();
        assert!(said.contains("more than 64 deep"), "{said}");
    }
}
