//! Which samples files hold: sets of (device, epoch, stream, seq), the key under which a sample is in a lake once (D1).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, BooleanArray, RecordBatch};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use headwater_core::interval::IntervalSet;
use iceberg::spec::{Datum, PrimitiveLiteral, TableMetadata};

use super::files::{Files, LiveFile};
use super::rows;
use crate::error::LakeError;
use crate::names::TableName;
use crate::store::LakeStore;

/// The columns of the key. `seq` makes a table one of samples; texts a table lacks count as empty.
pub(super) const TEXTS: [&str; 3] = ["device", "epoch", "stream"];
pub(super) const SEQ: &str = "seq";

/// Files whose keys are read at once.
const READS_MAX: usize = 4;

/// Device, epoch and stream: whose seqs they are.
pub(super) type Whose = [String; 3];

/// A set of samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Keys {
    of: BTreeMap<Whose, IntervalSet>,
}

impl Keys {
    pub(super) fn is_empty(&self) -> bool {
        self.of.values().all(IntervalSet::is_empty)
    }

    pub(super) fn count(&self) -> u64 {
        self.of.values().map(IntervalSet::count).sum()
    }

    pub(super) fn insert(&mut self, whose: &Whose, seqs: Range<u64>) {
        if !seqs.is_empty() {
            self.of.entry(whose.clone()).or_default().insert(seqs);
        }
    }

    pub(super) fn contains(&self, whose: &Whose, seq: u64) -> bool {
        self.of.get(whose).is_some_and(|seqs| seqs.contains(seq))
    }

    /// Those of `seqs` that are in the set.
    pub(super) fn present_in(&self, whose: &Whose, seqs: Range<u64>) -> Vec<Range<u64>> {
        self.of.get(whose).map(|of| of.present_in(seqs)).unwrap_or_default()
    }

    /// Those of `seqs` that are not.
    pub(super) fn missing_in(&self, whose: &Whose, seqs: Range<u64>) -> Vec<Range<u64>> {
        match self.of.get(whose) {
            Some(of) => of.missing_in(seqs),
            None => vec![seqs],
        }
    }

    pub(super) fn union_with(&mut self, other: &Keys) {
        for (whose, seqs) in other.runs() {
            self.insert(whose, seqs);
        }
    }

    /// What is in here and not in `other`.
    pub(super) fn without(&self, other: &Keys) -> Keys {
        let mut out = Keys::default();
        for (whose, seqs) in self.runs() {
            other.missing_in(whose, seqs).into_iter().for_each(|run| out.insert(whose, run));
        }
        out
    }

    /// Whether any of them is of somebody within `texts` (least and greatest device, epoch and stream, where known) and has
    /// one of `seqs`.
    pub(super) fn meets(&self, texts: &[Option<(String, String)>; 3], seqs: Option<&Range<u64>>) -> bool {
        let within = |whose: &Whose| {
            let mut both = whose.iter().zip(texts);
            both.all(|(text, bounds)| bounds.as_ref().is_none_or(|(lo, hi)| lo <= text && text <= hi))
        };
        let has = |of: &IntervalSet| match seqs {
            None => !of.is_empty(),
            Some(seqs) => !of.present_in(seqs.clone()).is_empty(),
        };
        self.of.iter().any(|(whose, of)| within(whose) && has(of))
    }

    /// What is in both.
    pub(super) fn within(&self, other: &Keys) -> Keys {
        let mut out = Keys::default();
        for (whose, seqs) in self.runs() {
            other.present_in(whose, seqs).into_iter().for_each(|run| out.insert(whose, run));
        }
        out
    }

    /// Runs of seqs, in order.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&Whose, Range<u64>)> {
        self.of.iter().flat_map(|(whose, seqs)| seqs.iter().map(move |run| (whose, run)))
    }
}

/// Whether a table is one of samples.
pub(super) fn is_keyed(metadata: &TableMetadata) -> bool {
    metadata.current_schema().field_by_name(SEQ).is_some()
}

/// Keys of all `files`. Reads the four columns of the key, nothing else.
pub(super) async fn of_files(
    store: &LakeStore,
    table: &TableName,
    metadata: &TableMetadata,
    files: &Files,
) -> Result<Keys, LakeError> {
    let columns: Vec<&str> = TEXTS.into_iter().chain([SEQ]).collect();
    let reads: Vec<BoxFuture<'_, Result<Keys, LakeError>>> = files
        .values()
        .filter(|live| live.is_data())
        .map(|live| {
            let columns = &columns;
            async move {
                let mut keys = Keys::default();
                for batch in rows::read(store, table, metadata, live, Some(columns)).await? {
                    KeyColumns::of(&batch)
                        .each(|_, whose, seq| keys.insert(whose, seq..seq.saturating_add(1)));
                }
                Ok(keys)
            }
            .boxed()
        })
        .collect();
    let found: Vec<Keys> = futures::stream::iter(reads).buffer_unordered(READS_MAX).try_collect().await?;
    let mut keys = Keys::default();
    found.iter().for_each(|of| keys.union_with(of));
    Ok(keys)
}

/// Which rows of a batch are not among `known`.
pub(super) fn rows_without(batch: &RecordBatch, known: &Keys) -> BooleanArray {
    let mut keep = vec![true; batch.num_rows()];
    KeyColumns::of(batch).each(|row, whose, seq| {
        if let Some(keep) = keep.get_mut(row) {
            *keep = !known.contains(whose, seq);
        }
    });
    BooleanArray::from(keep)
}

/// Those of `files` that may hold a key of `others`, as far as the bounds in their manifests tell.
pub(super) fn near(metadata: &TableMetadata, files: &Files, others: &Files) -> Files {
    let spans: Vec<Span> = others.values().map(|live| Span::of(metadata, live)).collect();
    let may = |live: &LiveFile| {
        let span = Span::of(metadata, live);
        spans.iter().any(|other| span.meets(other))
    };
    files.iter().filter(|(_, live)| may(live)).map(|(url, live)| (url.clone(), live.clone())).collect()
}

/// Least and greatest device and seq of a file; none where its manifest does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    device: Option<(String, String)>,
    seq: Option<(i64, i64)>,
}

impl Span {
    fn of(metadata: &TableMetadata, live: &LiveFile) -> Span {
        let bounds = |name: &str| {
            let id = metadata.current_schema().field_id_by_name(name)?;
            Some((live.file.lower_bounds().get(&id)?, live.file.upper_bounds().get(&id)?))
        };
        let text = |datum: &Datum| match datum.literal() {
            PrimitiveLiteral::String(text) => Some(text.clone()),
            _ => None,
        };
        let long = |datum: &Datum| match datum.literal() {
            PrimitiveLiteral::Long(n) => Some(*n),
            _ => None,
        };
        Span {
            device: bounds(TEXTS[0]).and_then(|(lo, hi)| text(lo).zip(text(hi))),
            seq: bounds(SEQ).and_then(|(lo, hi)| long(lo).zip(long(hi))),
        }
    }

    fn meets(&self, other: &Span) -> bool {
        fn apart<T: PartialOrd>(a: &Option<(T, T)>, b: &Option<(T, T)>) -> bool {
            a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| a.1 < b.0 || b.1 < a.0)
        }
        !apart(&self.device, &other.device) && !apart(&self.seq, &other.seq)
    }
}

/// The key's columns of a batch.
struct KeyColumns<'a> {
    texts: [Option<&'a dyn Array>; 3],
    seq: Option<&'a dyn Array>,
    rows: usize,
}

impl<'a> KeyColumns<'a> {
    fn of(batch: &'a RecordBatch) -> KeyColumns<'a> {
        let column = |name: &str| batch.column_by_name(name).map(AsRef::as_ref);
        KeyColumns { texts: TEXTS.map(column), seq: column(SEQ), rows: batch.num_rows() }
    }

    /// Gives every row that has a seq.
    fn each(&self, mut take: impl FnMut(usize, &Whose, u64)) {
        let Some(seqs) = self.seq.and_then(|column| column.as_primitive_opt::<Int64Type>()) else { return };
        let mut whose: Whose = Default::default();
        for row in (0..self.rows).filter(|row| seqs.is_valid(*row)) {
            for (text, column) in whose.iter_mut().zip(&self.texts) {
                let found = column.map_or("", |column| text_at(column, row));
                // Rows are sorted by device: most have the texts of the one before.
                if text != found {
                    found.clone_into(text);
                }
            }
            take(row, &whose, seqs.value(row).cast_unsigned());
        }
    }
}

/// The text at a row; empty where it is null or no text.
pub(super) fn text_at(column: &dyn Array, row: usize) -> &str {
    if column.is_null(row) {
        return "";
    }
    let short = column.as_string_opt::<i32>().map(|column| column.value(row));
    short.or_else(|| column.as_string_opt::<i64>().map(|column| column.value(row))).unwrap_or("")
}

/// Devices among the keys, for looking at a part of a table only.
pub(super) fn devices(keys: &Keys) -> BTreeSet<&str> {
    keys.of.keys().map(|[device, ..]| device.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(runs: &[(&str, Range<u64>)]) -> Keys {
        let mut keys = Keys::default();
        for (device, run) in runs {
            keys.insert(&[(*device).to_owned(), "e".to_owned(), "imu".to_owned()], run.clone());
        }
        keys
    }

    #[test]
    fn sets_of_samples_behave_as_sets() {
        let a = keys(&[("a", 0..10), ("b", 5..6)]);
        let b = keys(&[("a", 3..5), ("a", 8..12)]);
        assert_eq!(a.without(&b), keys(&[("a", 0..3), ("a", 5..8), ("b", 5..6)]));
        assert_eq!(a.within(&b), keys(&[("a", 3..5), ("a", 8..10)]));
        assert_eq!((a.count(), b.count()), (11, 6));
        assert!(a.without(&a).is_empty());
        assert_eq!(devices(&a), BTreeSet::from(["a", "b"]));
    }

    #[test]
    fn spans_that_cannot_meet_are_told_apart_and_unknown_ones_are_not() {
        let span = |device: Option<(&str, &str)>, seq| Span {
            device: device.map(|(lo, hi)| (lo.to_owned(), hi.to_owned())),
            seq,
        };
        let a = span(Some(("a", "c")), Some((0, 9)));
        assert!(!a.meets(&span(Some(("d", "e")), Some((0, 9)))));
        assert!(!a.meets(&span(Some(("b", "b")), Some((10, 12)))));
        assert!(a.meets(&span(None, None)) && a.meets(&span(Some(("c", "d")), Some((9, 9)))));
    }
}
