//! The streaming k-way merge: sorted inputs in, one sorted stream out, and of each input no more in memory than two
//! batches and the row group they come from.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use arrow_select::interleave::interleave_record_batch;
use futures::{StreamExt, TryStreamExt, stream};

use super::order::{Keys, Order};
use super::source::Rows;
use crate::error::LakeError;
use crate::table::{Shape, failed, rows_within};

/// Rows given out at once. Fixed, so that the same rows make the same file whatever inputs they come from.
pub(crate) const OUT_ROWS: usize = 8_192;

/// Bytes given out at once in tables with blobs.
const OUT_BLOB_BYTES: usize = 4 << 20;

/// Inputs opened at once.
const OPENS_MAX: usize = 8;

/// An input at a row of its current batch.
struct Cursor {
    rows: Rows,
    /// Place of its batch among the slots.
    slot: usize,
    keys: Keys,
    at: usize,
}

/// A merge under way.
pub(crate) struct Merge {
    shape: Arc<Shape>,
    order: Order,
    cursors: Vec<Cursor>,
    /// Batches that picked rows lie in: the current one of each input, and some that are used up.
    slots: Vec<RecordBatch>,
    picked: Vec<(usize, usize)>,
    /// Rows in order that do not fill an output yet.
    ready: Vec<RecordBatch>,
    ready_rows: usize,
}

impl Merge {
    pub(crate) async fn open(shape: &Arc<Shape>, inputs: Vec<Rows>) -> Result<Merge, LakeError> {
        let order = Order::new(shape).map_err(|e| LakeError::Table(failed(&shape.spec, "*", e)))?;
        let mut merge = Merge {
            shape: Arc::clone(shape),
            order,
            cursors: Vec::new(),
            slots: Vec::new(),
            picked: Vec::new(),
            ready: Vec::new(),
            ready_rows: 0,
        };
        let firsts = inputs.into_iter().map(|mut rows| async move {
            let first = next_batch(&mut rows).await?;
            Ok::<_, LakeError>((rows, first))
        });
        // In their order, so that rows that are equal in everything come out in the same order again.
        let firsts: Vec<_> = stream::iter(firsts).buffered(OPENS_MAX).try_collect().await?;
        for (rows, first) in firsts {
            if let Some(batch) = first {
                let keys = merge.keys(&batch)?;
                merge.cursors.push(Cursor { rows, slot: merge.slots.len(), keys, at: 0 });
                merge.slots.push(batch);
            }
        }
        Ok(merge)
    }

    fn keys(&self, batch: &RecordBatch) -> Result<Keys, LakeError> {
        self.order.keys(batch).map_err(|e| LakeError::Table(failed(&self.shape.spec, "*", e)))
    }

    /// The next rows; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, LakeError> {
        loop {
            if let Some(out) = self.full()? {
                return Ok(Some(out));
            }
            let Some((first, second)) = self.smallest() else {
                self.gather()?;
                return self.rest();
            };
            self.take_run(first, second);
            if self.used_up(first) {
                self.refill(first).await?;
            }
            let many = self.slots.len() > 2 * self.cursors.len() + 1;
            if many || self.picked.len() >= OUT_ROWS {
                self.gather()?;
            }
        }
    }

    /// The inputs with the smallest and the second smallest row.
    fn smallest(&self) -> Option<(usize, Option<usize>)> {
        let mut best: Option<(usize, Option<usize>)> = None;
        for place in 0..self.cursors.len() {
            best = Some(match best {
                None => (place, None),
                Some((first, _)) if self.compare(place, first) == Ordering::Less => (place, Some(first)),
                Some((first, None)) => (first, Some(place)),
                Some((first, Some(second))) if self.compare(place, second) == Ordering::Less => {
                    (first, Some(place))
                }
                Some(best) => best,
            });
        }
        best
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        self.compare_at((a, self.cursors[a].at), b)
    }

    fn compare_at(&self, (a, row): (usize, usize), b: usize) -> Ordering {
        let (left, right) = (&self.cursors[a], &self.cursors[b]);
        let order = self.order.compare(
            (&self.slots[left.slot], &left.keys, row),
            (&self.slots[right.slot], &right.keys, right.at),
        );
        order.then(a.cmp(&b))
    }

    fn len(&self, cursor: usize) -> usize {
        self.slots[self.cursors[cursor].slot].num_rows()
    }

    fn used_up(&self, cursor: usize) -> bool {
        self.cursors[cursor].at >= self.len(cursor)
    }

    /// Picks the rows of `first` that come before the next one of `second`.
    fn take_run(&mut self, first: usize, second: Option<usize>) {
        let (at, slot, len) = (self.cursors[first].at, self.cursors[first].slot, self.len(first));
        let len = len.min(at + OUT_ROWS);
        let end = match second {
            None => len,
            Some(second) => self.run_end(first, second, at, len),
        };
        self.picked.extend((at..end).map(|row| (slot, row)));
        self.cursors[first].at = end;
    }

    /// The first row of `first` after `at` that is greater than the current one of `second`: found in doubling steps, for
    /// inputs that overlap little have long runs.
    fn run_end(&self, first: usize, second: usize, at: usize, len: usize) -> usize {
        let before = |row: usize| self.compare_at((first, row), second) == Ordering::Less;
        let (mut low, mut step) = (at, 1);
        while low + step < len && before(low + step) {
            low += step;
            step *= 2;
        }
        // `low` comes before it, `high` does not or is the end.
        let mut high = (low + step).min(len);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if before(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    async fn refill(&mut self, cursor: usize) -> Result<(), LakeError> {
        match next_batch(&mut self.cursors[cursor].rows).await? {
            Some(batch) => {
                let keys = self.keys(&batch)?;
                let place = self.slots.len();
                self.slots.push(batch);
                let cursor = &mut self.cursors[cursor];
                (cursor.slot, cursor.keys, cursor.at) = (place, keys, 0);
            }
            None => drop(self.cursors.remove(cursor)),
        }
        Ok(())
    }

    /// Brings the picked rows together and lets go of used-up batches.
    fn gather(&mut self) -> Result<(), LakeError> {
        if !self.picked.is_empty() {
            let slots: Vec<&RecordBatch> = self.slots.iter().collect();
            let rows = interleave_record_batch(&slots, &self.picked);
            let rows = rows.map_err(|e| LakeError::Table(failed(&self.shape.spec, "*", e)))?;
            self.ready_rows += rows.num_rows();
            self.ready.push(rows);
            self.picked.clear();
        }
        let mut kept = Vec::with_capacity(self.cursors.len());
        for cursor in &mut self.cursors {
            kept.push(self.slots[cursor.slot].clone());
            cursor.slot = kept.len() - 1;
        }
        self.slots = kept;
        Ok(())
    }

    /// A whole output, if there is one.
    fn full(&mut self) -> Result<Option<RecordBatch>, LakeError> {
        if !self.shape.spec.blob_columns.is_empty() {
            return self.full_of_blobs();
        }
        if self.ready_rows < OUT_ROWS {
            return Ok(None);
        }
        let all = self.together()?;
        let out = all.slice(0, OUT_ROWS);
        self.ready_rows = all.num_rows() - OUT_ROWS;
        if self.ready_rows > 0 {
            self.ready.push(all.slice(OUT_ROWS, self.ready_rows));
        }
        Ok(Some(out))
    }

    /// With blobs bytes decide, and rows go out as they were gathered.
    fn full_of_blobs(&mut self) -> Result<Option<RecordBatch>, LakeError> {
        if self.ready_rows == 0 {
            return Ok(None);
        }
        let all = self.together()?;
        let rows = rows_within(&all, OUT_BLOB_BYTES);
        self.ready_rows = all.num_rows() - rows;
        if self.ready_rows > 0 {
            self.ready.push(all.slice(rows, self.ready_rows));
        }
        Ok(Some(all.slice(0, rows)))
    }

    fn rest(&mut self) -> Result<Option<RecordBatch>, LakeError> {
        if self.ready_rows == 0 {
            return Ok(None);
        }
        if let Some(out) = self.full()? {
            return Ok(Some(out));
        }
        self.ready_rows = 0;
        self.together().map(Some)
    }

    fn together(&mut self) -> Result<RecordBatch, LakeError> {
        let parts = std::mem::take(&mut self.ready);
        match &parts[..] {
            [one] => Ok(one.clone()),
            _ => concat_batches(&self.shape.target, &parts)
                .map_err(|e| LakeError::Table(failed(&self.shape.spec, "*", e))),
        }
    }
}

async fn next_batch(rows: &mut Rows) -> Result<Option<RecordBatch>, LakeError> {
    while let Some(batch) = rows.try_next().await? {
        if batch.num_rows() > 0 {
            return Ok(Some(batch));
        }
    }
    Ok(None)
}
