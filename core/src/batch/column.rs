//! One decoded column: values of one physical type, some of them missing.

use crate::sample::Value;
use crate::schema::Physical;

/// Values of one physical type. A missing row holds zero or nothing here.
#[derive(Debug, Clone)]
pub enum Values {
    /// Integers.
    I64(Vec<i64>),
    /// Doubles.
    F64(Vec<f64>),
    /// Singles.
    F32(Vec<f32>),
    /// Bytes.
    Bytes(Vec<Vec<u8>>),
    /// Text.
    Utf8(Vec<String>),
}

impl Values {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::I64(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Bytes(v) => v.len(),
            Self::Utf8(v) => v.len(),
        }
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Values and which of them are there.
#[derive(Debug, Clone)]
pub struct Column {
    /// One entry per row.
    pub values: Values,
    /// `None` = all rows are valid.
    pub valid: Option<Vec<bool>>,
}

impl Column {
    /// An empty column.
    #[must_use]
    pub fn new(physical: Physical) -> Self {
        let values = match physical {
            Physical::I64 => Values::I64(Vec::new()),
            Physical::F64 => Values::F64(Vec::new()),
            Physical::F32 => Values::F32(Vec::new()),
            Physical::Bytes => Values::Bytes(Vec::new()),
            Physical::Utf8 => Values::Utf8(Vec::new()),
        };
        Self { values, valid: None }
    }

    /// A column of integers without nulls.
    #[must_use]
    pub fn integers(values: Vec<i64>) -> Self {
        Self { values: Values::I64(values), valid: None }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Physical type.
    #[must_use]
    pub fn physical(&self) -> Physical {
        match self.values {
            Values::I64(_) => Physical::I64,
            Values::F64(_) => Physical::F64,
            Values::F32(_) => Physical::F32,
            Values::Bytes(_) => Physical::Bytes,
            Values::Utf8(_) => Physical::Utf8,
        }
    }

    /// True if `row` holds a value.
    #[must_use]
    pub fn is_valid(&self, row: usize) -> bool {
        row < self.len() && self.valid.as_ref().is_none_or(|valid| valid.get(row) == Some(&true))
    }

    /// Appends one value; `false` (and no change) if its type is another.
    #[must_use]
    pub fn push(&mut self, value: &Value) -> bool {
        let rows = self.len();
        match (&mut self.values, value) {
            (Values::I64(v), Value::I64(x)) => v.push(*x),
            (Values::F64(v), Value::F64(x)) => v.push(*x),
            (Values::F32(v), Value::F32(x)) => v.push(*x),
            (Values::Bytes(v), Value::Bytes(x)) => v.push(x.clone()),
            (Values::Utf8(v), Value::Utf8(x)) => v.push(x.clone()),
            (values, Value::Null) => {
                match values {
                    Values::I64(v) => v.push(0),
                    Values::F64(v) => v.push(0.0),
                    Values::F32(v) => v.push(0.0),
                    Values::Bytes(v) => v.push(Vec::new()),
                    Values::Utf8(v) => v.push(String::new()),
                }
                self.valid.get_or_insert_with(|| vec![true; rows]).push(false);
                return true;
            }
            _ => return false,
        }
        if let Some(valid) = &mut self.valid {
            valid.push(true);
        }
        true
    }

    /// The value at `row`; `Null` if missing or beyond the end.
    #[must_use]
    pub fn value(&self, row: usize) -> Value {
        if !self.is_valid(row) {
            return Value::Null;
        }
        match &self.values {
            Values::I64(v) => v.get(row).map(|x| Value::I64(*x)),
            Values::F64(v) => v.get(row).map(|x| Value::F64(*x)),
            Values::F32(v) => v.get(row).map(|x| Value::F32(*x)),
            Values::Bytes(v) => v.get(row).map(|x| Value::Bytes(x.clone())),
            Values::Utf8(v) => v.get(row).map(|x| Value::Utf8(x.clone())),
        }
        .unwrap_or(Value::Null)
    }

    /// Appends the rows of `other`; `false` (and no change) if its type is another.
    #[must_use]
    pub fn append(&mut self, other: &Column) -> bool {
        let (mine, theirs) = (self.len(), other.len());
        match (&mut self.values, &other.values) {
            (Values::I64(a), Values::I64(b)) => a.extend_from_slice(b),
            (Values::F64(a), Values::F64(b)) => a.extend_from_slice(b),
            (Values::F32(a), Values::F32(b)) => a.extend_from_slice(b),
            (Values::Bytes(a), Values::Bytes(b)) => a.extend_from_slice(b),
            (Values::Utf8(a), Values::Utf8(b)) => a.extend_from_slice(b),
            _ => return false,
        }
        if self.valid.is_some() || other.valid.is_some() {
            let valid = self.valid.get_or_insert_with(|| vec![true; mine]);
            match &other.valid {
                Some(more) => valid.extend_from_slice(more),
                None => valid.resize(mine.saturating_add(theirs), true),
            }
        }
        true
    }

    /// The rows `range` as a column of their own.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Column {
        let cut = |n: usize| range.start.min(n)..range.end.min(n);
        let values = match &self.values {
            Values::I64(v) => Values::I64(v.get(cut(v.len())).unwrap_or_default().to_vec()),
            Values::F64(v) => Values::F64(v.get(cut(v.len())).unwrap_or_default().to_vec()),
            Values::F32(v) => Values::F32(v.get(cut(v.len())).unwrap_or_default().to_vec()),
            Values::Bytes(v) => Values::Bytes(v.get(cut(v.len())).unwrap_or_default().to_vec()),
            Values::Utf8(v) => Values::Utf8(v.get(cut(v.len())).unwrap_or_default().to_vec()),
        };
        let valid = self.valid.as_ref().map(|v| v.get(cut(v.len())).unwrap_or_default().to_vec());
        Column { values, valid: valid.filter(|v| v.contains(&false)) }
    }

    /// Equality by bits, row by row.
    #[must_use]
    pub fn same_bits(&self, other: &Column) -> bool {
        self.len() == other.len()
            && self.physical() == other.physical()
            && (0..self.len()).all(|row| self.is_valid(row) == other.is_valid(row))
            && match (&self.values, &other.values) {
                (Values::I64(a), Values::I64(b)) => self.equal(a, b, |x, y| x == y),
                (Values::F64(a), Values::F64(b)) => self.equal(a, b, |x, y| x.to_bits() == y.to_bits()),
                (Values::F32(a), Values::F32(b)) => self.equal(a, b, |x, y| x.to_bits() == y.to_bits()),
                (Values::Bytes(a), Values::Bytes(b)) => self.equal(a, b, |x, y| x == y),
                (Values::Utf8(a), Values::Utf8(b)) => self.equal(a, b, |x, y| x == y),
                _ => false,
            }
    }

    fn equal<T>(&self, a: &[T], b: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
        a.iter().zip(b).enumerate().all(|(row, (x, y))| !self.is_valid(row) || same(x, y))
    }
}
