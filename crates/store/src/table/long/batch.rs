//! Some rows of a long file.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::DataType;

use super::layout::Part;
use crate::table::error::TableError;
use crate::table::ids;
use crate::table::parquet::{append_floats, cast, decode, is_id, is_integer};

/// Some rows of a long file.
pub(super) struct Batch {
    pub(super) path: PathBuf,
    pub(super) columns: RecordBatch,
    /// Column of each part.
    pub(super) places: BTreeMap<Part, usize>,
}

impl Batch {
    pub(super) fn has(&self, part: Part) -> bool {
        self.places.contains_key(&part)
    }

    /// Name of the column that plays the part.
    pub(super) fn name(&self, part: Part) -> String {
        let schema = self.columns.schema();
        schema.field(self.places[&part]).name().clone()
    }

    /// Calls `of` with the text of `part` in each row. Returns no value if the file does not have the part.
    ///
    /// `of` is called once for each distinct value of a dictionary.
    pub(super) fn each<T: Copy>(
        &self,
        part: Part,
        mut of: impl FnMut(Option<&str>) -> T,
    ) -> Result<Vec<T>, TableError> {
        let Some(&place) = self.places.get(&part) else {
            return Ok(Vec::new());
        };
        let column = self.columns.column(place);
        if let Some(column) = column.as_dictionary_opt::<Int32Type>() {
            let texts = self.texts(part, column.values())?;
            let of_null = of(None);
            let of_value: Vec<T> = texts.iter().map(|text| of(text.as_deref())).collect();
            let keys = column.keys().iter();
            let key = |key: Option<i32>| key.and_then(|it| of_value.get(usize::try_from(it).ok()?));
            return Ok(keys.map(|it| key(it).copied().unwrap_or(of_null)).collect());
        }
        if is_integer(column.data_type()) {
            let column = cast(column, &DataType::Int64).map_err(decode(&self.path))?;
            let mut known: HashMap<Option<i64>, T> = HashMap::new();
            let values = column.as_primitive::<Int64Type>().iter();
            return Ok(values
                .map(|it| {
                    let first = || of(it.map(|it| it.to_string()).as_deref());
                    *known.entry(it).or_insert_with(first)
                })
                .collect());
        }
        let texts = self.texts(part, column)?;
        Ok(texts.iter().map(|text| of(text.as_deref())).collect())
    }

    fn texts(&self, part: Part, column: &ArrayRef) -> Result<Vec<Option<String>>, TableError> {
        let refuse = |found: String| TableError::IdType {
            path: self.path.clone(),
            column: self.name(part),
            found,
            candidates: String::new(),
        };
        let data_type = column.data_type();
        if !is_id(data_type) {
            return Err(refuse(data_type.to_string()));
        }
        match ids::texts(column).map_err(decode(&self.path))? {
            Ok(texts) => Ok(texts),
            Err(wrong) => Err(refuse(format!("{data_type}, {}", wrong.value))),
        }
    }

    pub(super) fn values(&self) -> Result<Vec<f64>, TableError> {
        let mut values = Vec::with_capacity(self.columns.num_rows());
        append_floats(&mut values, self.columns.column(self.places[&Part::Value]))
            .map_err(decode(&self.path))?;
        Ok(values)
    }
}
