//! The chain of a device's rows beside ingest: motion and episodes of new rows, and of rows in the table that late ones
//! changed.
//!
//! New rows nearly always follow those before, and what is remembered there is all they need. Where it is not (a start, a
//! rollback), or rows come between others, the chain is gone through as the table has it, day by day, from where it can be
//! told (motion) or from the device's first row (episodes). Behind a late row it is gone through twice, with it and as it
//! was, until both are the same again; rows of the table whose columns differ are written anew, and no others.

use super::aligning::AlignError;
use crate::align::derived::chain::{End, Link, Tail, Tails, before, by_device, follow, picked};
use crate::align::derived::{Derives, as_type, beside, without};
use crate::align::window::{AlignedRow, AlignedWindow, named_by, told};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow_schema::{ArrowError, Field, Schema};
use arrow_select::concat::concat_batches;
use futures::TryStreamExt;
use headwater_align::recipe::{Entity, Recipe};
use headwater_core::id::DeviceId;
use headwater_core::time::NS_PER_S;
use headwater_lake::{CommitId, Lake, ScanOptions, TableName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const NS_PER_DAY: i64 = 86_400 * NS_PER_S;
/// Rows of the table that one window writes anew behind late ones: some 20 MB. The rest follows in further windows.
const CHANGED_ROWS_MAX: usize = 20_000;
/// Around rows that are done again, days: better tracks may have moved them by as much.
const AROUND_DAYS: i64 = 1;

/// What a window's chain is made of and for.
pub(super) struct Chaining<'a> {
    pub(super) lake: &'a Lake,
    pub(super) head: &'a CommitId,
    pub(super) table: &'a TableName,
    pub(super) recipe: &'a Recipe,
    pub(super) derives: &'a Derives,
}

/// Rows of one kind, final or provisional.
#[derive(Default)]
struct Part {
    batches: Vec<RecordBatch>,
    rows: Vec<AlignedRow>,
}

impl Part {
    fn whole(&self) -> Result<Option<RecordBatch>, ArrowError> {
        let Some(first) = self.batches.first() else { return Ok(None) };
        concat_batches(first.schema_ref(), &self.batches).map(Some)
    }

    fn take(&mut self, from: &[AlignedRow], links: &[(Link, usize)], batch: RecordBatch) {
        self.rows.extend(links.iter().filter_map(|(_, at)| from.get(*at).cloned()));
        self.batches.push(batch);
    }
}

/// What is read of the table.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// Some columns of all rows.
    Columns(&'a [String]),
    /// All columns of the rows with these keys.
    Rows(&'a BTreeSet<String>),
}

/// A row of the chain: where it is in the table, or else among the new ones.
type Placed = (Link, Result<usize, usize>);
/// Rows in the order of their chain, with their places.
type Ordered<'a> = (&'a RecordBatch, &'a [(Link, usize)]);

/// What came of going through the table.
struct Walked {
    /// The chain's columns of the new rows.
    made: Option<RecordBatch>,
    end: End,
    /// Rows of the table that are written anew, without the columns that programs make of the chain's.
    changed: Vec<RecordBatch>,
    /// Where more of them begin, UTC ns.
    more_ns: Option<i64>,
}

impl Chaining<'_> {
    /// Adds the chain's columns to a window, and rows of the table that change with it. Gives devices with the UTC, ns, from
    /// which more of those are to be done again.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub(super) async fn chain(
        &self,
        window: &mut AlignedWindow,
        tails: &Tails,
    ) -> Result<Vec<(String, i64)>, AlignError> {
        let (finals, provisional) = parts(window);
        let (all_finals, all_provisional) = (finals.whole()?, provisional.whole()?);
        let links = |rows: &Option<RecordBatch>| rows.as_ref().map(by_device).transpose();
        let (final_links, provisional_links) = (links(&all_finals)?, links(&all_provisional)?);
        let (final_links, provisional_links) =
            (final_links.unwrap_or_default(), provisional_links.unwrap_or_default());
        let gone = gone(window);
        let devices: BTreeSet<&String> =
            final_links.keys().chain(provisional_links.keys()).chain(gone.keys()).collect();
        let (mut new_finals, mut new_provisional, mut more) = (Part::default(), Part::default(), Vec::new());
        let is_there = self.lake.tables(self.head).await?.contains_key(self.table);
        for device in devices {
            let own = final_links.get(device).map(Vec::as_slice).unwrap_or_default();
            let ordered = all_finals.as_ref().filter(|_| !own.is_empty()).map(|rows| (rows, own));
            let known = tails.get(device);
            let follows = match known {
                Some(tail) => own.first().is_none_or(|(first, _)| Some(first) > tail.finals.at.as_ref()),
                None => !is_there,
            };
            let mut tail = known.cloned().unwrap_or_default();
            let made = if follows && !gone.contains_key(device) {
                match ordered {
                    Some((rows, own)) => {
                        let (made, end) = follow(self.derives, &tail.finals, rows, own)?;
                        tail.finals = end;
                        Some(made)
                    }
                    None => None,
                }
            } else {
                let none = BTreeSet::new();
                let walked =
                    self.walk(device, ordered, gone.get(device).unwrap_or(&none), known, window).await?;
                for batch in &walked.changed {
                    self.written_anew(device, batch, window, &mut new_finals)?;
                }
                more.extend(walked.more_ns.map(|ts_ns| (device.clone(), ts_ns)));
                tail = Tail { finals: walked.end.clone(), all: walked.end };
                walked.made
            };
            if let (Some((rows, own)), Some(made)) = (ordered, made) {
                let ordered = picked(rows, own.iter().map(|(_, at)| *at))?;
                new_finals.take(&finals.rows, own, beside(&ordered, &made)?);
            }
            if let (Some(rows), Some(own)) = (&all_provisional, provisional_links.get(device)) {
                let end = before(&tail.finals, &tail.all, own.first().map(|(link, _)| link));
                let (made, end) = follow(self.derives, end, rows, own)?;
                tail.all = end;
                let ordered = picked(rows, own.iter().map(|(_, at)| *at))?;
                new_provisional.take(&provisional.rows, own, beside(&ordered, &made)?);
            }
            window.tails.insert(device.clone(), tail);
        }
        (window.batches, window.rows) = (Vec::new(), Vec::new());
        for part in [new_finals, new_provisional] {
            window.batches.extend(part.whole()?);
            window.rows.extend(part.rows);
        }
        Ok(more)
    }

    /// Notes rows of the table that are written anew.
    fn written_anew(
        &self,
        device: &str,
        batch: &RecordBatch,
        window: &mut AlignedWindow,
        part: &mut Part,
    ) -> Result<(), AlignError> {
        let counted: Option<DeviceId> = match &self.recipe.entity {
            Entity::Site { sites } if sites.contains_key(device) => {
                sites.get(device).and_then(|devices| devices.first().cloned())
            }
            _ => device.parse().ok(),
        };
        let lost = || ArrowError::SchemaError(format!("a row of {device} has no row key of its form"));
        let mut rows = Vec::new();
        for (device, row_key, ts_ns, err_ns, grade) in told(batch)? {
            let named = counted.as_ref().and_then(|counted| named_by(counted, &row_key));
            let (key, seq) = named.ok_or_else(lost)?;
            window.replaces(device.clone(), row_key.clone(), ts_ns);
            window.redone.push((device.clone(), row_key.clone()));
            let provisional = false;
            rows.push(AlignedRow {
                key,
                seq,
                place: None,
                device,
                row_key,
                ts_ns,
                err_ns,
                grade,
                provisional,
            });
        }
        metrics::counter!("headwater_align_chain_rewritten_total").increment(rows.len() as u64);
        part.rows.extend(rows);
        part.batches.push(batch.clone());
        Ok(())
    }

    /// Goes through the table's rows of a device, with these new ones and without those that are gone.
    async fn walk(
        &self,
        device: &str,
        new: Option<Ordered<'_>>,
        gone: &BTreeSet<String>,
        known: Option<&Tail>,
        window: &AlignedWindow,
    ) -> Result<Walked, AlignError> {
        metrics::counter!("headwater_align_chain_walks_total").increment(1);
        let links = new.map(|(_, links)| links).unwrap_or_default();
        let mut state = Walk::new(self.derives, new, gone)?;
        let (mut changed, mut rows_changed, mut more_ns) = (Vec::new(), 0_usize, None);
        for day in self.days(links.first().map(|(link, _)| link), window).await? {
            let Some(stored) = self.stored(device, day, Wanted::Columns(&self.columns())).await? else {
                continue;
            };
            let differing =
                state.step(&stored, i64::from(day).saturating_add(1).saturating_mul(NS_PER_DAY))?;
            if let Some((keys, outputs)) = differing {
                match rows_changed.saturating_add(keys.len()) <= CHANGED_ROWS_MAX || changed.is_empty() {
                    true if more_ns.is_none() => {
                        let keys = keys.iter().take(CHANGED_ROWS_MAX).cloned().collect::<Vec<_>>();
                        let outputs = outputs.slice(0, keys.len());
                        rows_changed = rows_changed.saturating_add(keys.len());
                        changed.push(self.whole(device, day, &keys, &outputs).await?);
                        if outputs.num_rows() == CHANGED_ROWS_MAX {
                            more_ns = keys.last().map(|(link, _)| link.ts_ns);
                        }
                    }
                    _ => more_ns = more_ns.or(keys.first().map(|(link, _)| link.ts_ns)),
                }
            }
            let known = known.filter(|tail| tail.finals.at >= state.with.at);
            if let Some(tail) = known.filter(|_| state.is_over()) {
                state.with.clone_from(&tail.finals);
                break;
            }
        }
        let (made, end) = state.finish()?;
        Ok(Walked { made, end, changed, more_ns })
    }

    /// Columns that a walk reads.
    fn columns(&self) -> Vec<String> {
        let inputs = self.derives.chain_inputs().into_iter();
        inputs.chain(self.derives.chain_outputs()).chain(["provisional".to_owned()]).collect()
    }

    /// Days of the table from where the chain of rows that begin with `first` can be told.
    async fn days(&self, first: Option<&Link>, window: &AlignedWindow) -> Result<Vec<i32>, AlignError> {
        if !self.lake.tables(self.head).await?.contains_key(self.table) {
            return Ok(Vec::new());
        }
        let days = self.lake.days(self.head, self.table).await?;
        let first =
            first.map(|link| link.ts_ns).into_iter().chain(window.replaced_ts.map(|(lo, _)| lo)).min();
        let from = self.derives.chain_reach_ns().zip(first).map(|(reach, first)| {
            first.saturating_sub(reach).div_euclid(NS_PER_DAY).saturating_sub(AROUND_DAYS)
        });
        Ok(days.into_iter().filter(|day| from.is_none_or(|from| i64::from(*day) >= from)).collect())
    }

    /// Final rows of a device and day in the order of their chain, in the types they are made in.
    async fn stored(
        &self,
        device: &str,
        day: i32,
        wanted: Wanted<'_>,
    ) -> Result<Option<RecordBatch>, AlignError> {
        let us = |day: i64| day.saturating_mul(NS_PER_DAY / 1_000);
        let known = self.lake.columns(self.head, self.table).await?;
        let columns = match wanted {
            Wanted::Columns(columns) => {
                let is_there = |name: &&String| known.iter().any(|known| known.name == **name);
                Some(columns.iter().filter(is_there).cloned().collect())
            }
            Wanted::Rows(_) => None,
        };
        let options = ScanOptions {
            columns,
            device: Some(device.to_owned()),
            from_us: Some(us(day.into())),
            to_us: Some(us(i64::from(day).saturating_add(1))),
            ..ScanOptions::default()
        };
        let mut found = Vec::new();
        let mut batches = self.lake.scan(self.head, self.table, options).await?;
        while let Some(batch) = batches.try_next().await? {
            let flags = batch.column_by_name("provisional").and_then(|column| column.as_boolean_opt());
            let keys = texts(&batch, "row_key")?;
            let is_wanted = |at: usize| match wanted {
                Wanted::Columns(_) => true,
                Wanted::Rows(rows) => keys.get(at).is_some_and(|key| rows.contains(key)),
            };
            let is_final = |at: usize| flags.is_none_or(|flags| !flags.value(at));
            let keep: BooleanArray =
                (0..batch.num_rows()).map(|at| Some(is_final(at) && is_wanted(at))).collect();
            let kept = self.in_types(&arrow_select::filter::filter_record_batch(&batch, &keep)?)?;
            if kept.num_rows() > 0 {
                found.push(kept);
            }
        }
        let Some(first) = found.first() else { return Ok(None) };
        let whole = concat_batches(first.schema_ref(), &found)?;
        let mut links = by_device(&whole)?.into_values().flatten().collect::<Vec<_>>();
        links.sort();
        Ok(Some(picked(&whole, links.into_iter().map(|(_, at)| at))?))
    }

    /// Columns in the types that rows are made in.
    fn in_types(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<(Arc<Field>, ArrayRef)> = Vec::new();
        for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            match self.derives.schema().field_with_name(field.name()) {
                Ok(wanted) => columns.push((Arc::new(wanted.clone()), as_type(column, wanted.data_type())?)),
                // Of a field that nobody declares any more.
                Err(_) => columns.push((Arc::clone(field), Arc::clone(column))),
            }
        }
        let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
    }

    /// Whole rows of a day with other columns of the chain.
    async fn whole(
        &self,
        device: &str,
        day: i32,
        keys: &[(Link, String)],
        outputs: &RecordBatch,
    ) -> Result<RecordBatch, AlignError> {
        let lost = || ArrowError::SchemaError(format!("rows of {device} are gone from {}", self.table));
        let wanted: BTreeSet<String> = keys.iter().map(|(_, key)| key.clone()).collect();
        let rows = self.stored(device, day, Wanted::Rows(&wanted)).await?.ok_or_else(lost)?;
        let places: BTreeMap<String, usize> = keyed(&rows)?;
        let places = keys.iter().map(|(_, key)| places.get(key).copied().ok_or_else(lost));
        let rows = picked(&rows, places.collect::<Result<Vec<_>, _>>()?.into_iter())?;
        let mut made = self.derives.chain_outputs();
        made.extend(self.derives.after_outputs());
        let rows = self.with_missing(&without(&rows, &made)?, &made)?;
        Ok(beside(&rows, outputs)?)
    }

    /// The rows with nulls where the table has no such column yet, in the order they are made in.
    fn with_missing(&self, rows: &RecordBatch, made: &[String]) -> Result<RecordBatch, ArrowError> {
        let wanted = self.derives.schema().fields().iter().filter(|field| !made.contains(field.name()));
        let (mut fields, mut columns): (Vec<Arc<Field>>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
        for field in wanted {
            let found = rows.column_by_name(field.name()).cloned();
            columns.push(found.unwrap_or_else(|| new_null_array(field.data_type(), rows.num_rows())));
            fields.push(Arc::clone(field));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }
}

/// A way through the table's rows, day by day.
struct Walk<'a> {
    derives: &'a Derives,
    /// New rows in order, and where they stand.
    new: Option<RecordBatch>,
    links: Vec<Link>,
    keys: BTreeSet<String>,
    /// Row keys that are not there any more; taken out as they are met.
    gone: BTreeSet<String>,
    /// New rows gone through.
    taken: usize,
    with: End,
    without: End,
    /// Both differ, or the last row that was looked at did.
    is_parted: bool,
    /// The chain's columns of new rows.
    made: Vec<RecordBatch>,
}

/// Rows of the table whose columns differ, and their new ones.
type Differing = (Vec<(Link, String)>, RecordBatch);

impl<'a> Walk<'a> {
    fn new(
        derives: &'a Derives,
        new: Option<Ordered<'_>>,
        gone: &BTreeSet<String>,
    ) -> Result<Self, ArrowError> {
        let links = new.map(|(_, links)| links).unwrap_or_default();
        let new = new.map(|(rows, links)| picked(rows, links.iter().map(|(_, at)| *at))).transpose()?;
        Ok(Self {
            derives,
            keys: new.as_ref().map(keys_of).transpose()?.unwrap_or_default(),
            new,
            links: links.iter().map(|(link, _)| link.clone()).collect(),
            gone: gone.clone(),
            taken: 0,
            with: End::default(),
            without: End::default(),
            is_parted: false,
            made: Vec::new(),
        })
    }

    /// True if nothing that is still to come can change.
    fn is_over(&self) -> bool {
        self.taken >= self.links.len() && self.gone.is_empty() && !self.is_parted
    }

    fn inputs(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let column = |name: &String| {
            let missing = || ArrowError::SchemaError(format!("rows have no column {name}"));
            let field = self.derives.schema().field_with_name(name).map_err(|_| missing())?;
            let found = rows.column_by_name(name).cloned();
            Ok((
                Arc::new(field.clone()),
                found.unwrap_or_else(|| new_null_array(field.data_type(), rows.num_rows())),
            ))
        };
        let names = self.derives.chain_inputs();
        let columns: Vec<(Arc<Field>, ArrayRef)> =
            names.iter().map(column).collect::<Result<_, ArrowError>>()?;
        let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }

    /// The table's rows of a day, and the new ones before `end_ns`.
    fn step(&mut self, stored: &RecordBatch, end_ns: i64) -> Result<Option<Differing>, AlignError> {
        let links: Vec<Link> = self.links_of(stored)?;
        let upto = self.links.partition_point(|link| link.ts_ns < end_ns).max(self.taken);
        let keys = texts(stored, "row_key")?;
        let stays: Vec<bool> =
            keys.iter().map(|key| !self.gone.contains(key) && !self.keys.contains(key)).collect();
        let keys: BTreeSet<&String> = keys.iter().collect();
        self.gone.retain(|key| !keys.contains(key));
        let inputs = self.inputs(stored)?;
        let all: Vec<(Link, usize)> = links.iter().cloned().zip(0..).collect();
        let touched = upto > self.taken || stays.iter().any(|stays| !stays);
        if !touched && !self.is_parted {
            let (_, end) = follow(self.derives, &self.with, &inputs, &all)?;
            (self.without, self.with) = (end.clone(), end);
            return Ok(None);
        }
        // From the first row that comes or goes, or from the first of the day where a difference came in.
        let first_gone = stays.iter().position(|stays| !stays).and_then(|at| links.get(at).cloned());
        let first_new = self.links.get(self.taken).filter(|_| upto > self.taken).cloned();
        let since = match self.is_parted {
            true => None,
            false => first_gone.into_iter().chain(first_new).min(),
        };
        let (_, without) = follow(self.derives, &self.without, &inputs, &all)?;
        let (made, with, order) = self.merged(&inputs, &links, &stays, upto)?;
        self.taken = upto;
        let differing = self.differing(stored, &links, (&made, &order), since.as_ref())?;
        let last_differs = match (&differing, order.iter().rev().find(|(_, of)| of.is_ok())) {
            (Some((keys, _)), Some((last, _))) => keys.last().is_some_and(|(link, _)| link == last),
            _ => false,
        };
        self.is_parted = with.memory != without.memory || last_differs;
        (self.with, self.without) = (with, without);
        Ok(differing)
    }

    fn links_of(&self, rows: &RecordBatch) -> Result<Vec<Link>, ArrowError> {
        let mut links: Vec<(Link, usize)> = by_device(rows)?.into_values().flatten().collect();
        links.sort_by_key(|(_, at)| *at);
        Ok(links.into_iter().map(|(link, _)| link).collect())
    }

    /// The rows that stay with the new ones among them: their columns, the end, and who they are (of the table, or new).
    fn merged(
        &mut self,
        inputs: &RecordBatch,
        links: &[Link],
        stays: &[bool],
        upto: usize,
    ) -> Result<(RecordBatch, End, Vec<Placed>), AlignError> {
        let mut order: Vec<Placed> = Vec::new();
        let kept = links.iter().zip(stays).enumerate().filter(|(_, (_, stays))| **stays);
        order.extend(kept.map(|(at, (link, _))| (link.clone(), Ok(at))));
        let new = self.links.iter().enumerate().take(upto).skip(self.taken);
        order.extend(new.map(|(at, link)| (link.clone(), Err(at))));
        order.sort();
        let both = match &self.new {
            Some(new) => {
                let new = self.inputs(new)?;
                concat_batches(inputs.schema_ref(), [inputs, &new])?
            }
            None => inputs.clone(),
        };
        let base = inputs.num_rows();
        let place = |of: &Result<usize, usize>| match of {
            Ok(at) => *at,
            Err(at) => base.saturating_add(*at),
        };
        let places: Vec<(Link, usize)> = order.iter().map(|(link, of)| (link.clone(), place(of))).collect();
        let (made, end) = follow(self.derives, &self.with, &both, &places)?;
        let new = order.iter().enumerate().filter(|(_, (_, of))| of.is_err()).map(|(at, _)| at);
        self.made.push(picked(&made, new)?);
        Ok((made, end, order))
    }

    /// Rows of the table, from `since` on, whose columns are others now.
    fn differing(
        &self,
        stored: &RecordBatch,
        links: &[Link],
        (made, order): (&RecordBatch, &[Placed]),
        since: Option<&Link>,
    ) -> Result<Option<Differing>, ArrowError> {
        let keys = texts(stored, "row_key")?;
        let mut found = Vec::new();
        let mut places = Vec::new();
        for (place, (link, of)) in order.iter().enumerate() {
            let Ok(at) = of else { continue };
            if since.is_some_and(|since| link < since) {
                continue;
            }
            let is_same = |(field, new): (&Arc<Field>, &ArrayRef)| match stored.column_by_name(field.name()) {
                Some(old) => new.slice(place, 1).to_data() == old.slice(*at, 1).to_data(),
                None => new.is_null(place),
            };
            if !made.schema_ref().fields().iter().zip(made.columns()).all(is_same)
                && let (Some(link), Some(key)) = (links.get(*at), keys.get(*at))
            {
                found.push((link.clone(), key.clone()));
                places.push(place);
            }
        }
        if found.is_empty() {
            return Ok(None);
        }
        Ok(Some((found, picked(made, places.into_iter())?)))
    }

    /// The new rows behind all of the table's; gives the chain's columns of all new ones, and the end.
    fn finish(mut self) -> Result<(Option<RecordBatch>, End), AlignError> {
        if let Some(new) = self.new.as_ref().filter(|_| self.taken < self.links.len()) {
            let places: Vec<(Link, usize)> = self.links.iter().cloned().zip(0..).skip(self.taken).collect();
            let (made, end) = follow(self.derives, &self.with, new, &places)?;
            self.made.push(made);
            self.with = end;
        }
        let made = match self.made.first() {
            Some(first) => Some(concat_batches(first.schema_ref(), &self.made)?),
            None => None,
        };
        Ok((made, self.with))
    }
}

/// A window's rows taken apart: final ones and provisional ones.
fn parts(window: &mut AlignedWindow) -> (Part, Part) {
    let (mut finals, mut provisional) = (Part::default(), Part::default());
    let mut rows = std::mem::take(&mut window.rows).into_iter();
    for batch in std::mem::take(&mut window.batches) {
        let own: Vec<AlignedRow> = rows.by_ref().take(batch.num_rows()).collect();
        let part = match own.first().is_some_and(|row| row.provisional) {
            true => &mut provisional,
            false => &mut finals,
        };
        part.rows.extend(own);
        part.batches.push(batch);
    }
    (finals, provisional)
}

/// Adds the chain's columns to rows that follow those before, device by device; each batch is of final rows, or of
/// provisional ones.
///
/// # Errors
/// As [`follow`].
pub(super) fn chained(
    derives: &Derives,
    window: &mut AlignedWindow,
    tails: &mut Tails,
) -> Result<(), AlignError> {
    let (finals, provisional) = parts(window);
    for (part, is_final) in [(finals, true), (provisional, false)] {
        let Some(rows) = part.whole()? else { continue };
        let mut new = Part::default();
        for (device, links) in by_device(&rows)? {
            let tail = tails.entry(device.clone()).or_default();
            if is_final && links.first().is_some_and(|(first, _)| Some(first) <= tail.finals.at.as_ref()) {
                metrics::counter!("headwater_align_rebuild_disorder_total").increment(1);
                tracing::warn!(
                    device,
                    "rows made anew did not come in order: what motion and episodes say of them may differ"
                );
            }
            let end = if is_final {
                &tail.finals
            } else {
                before(&tail.finals, &tail.all, links.first().map(|(link, _)| link))
            };
            let (made, end) = follow(derives, end, &rows, &links)?;
            match is_final {
                true => tail.finals = end,
                false => tail.all = end,
            }
            let ordered = picked(&rows, links.iter().map(|(_, at)| *at))?;
            new.take(&part.rows, &links, beside(&ordered, &made)?);
        }
        window.batches.extend(new.whole()?);
        window.rows.extend(new.rows);
    }
    Ok(())
}

/// Row keys, by device, that were final in the table and are no more, or are done again; devices with late rows only have
/// none of them.
fn gone(window: &AlignedWindow) -> BTreeMap<String, BTreeSet<String>> {
    let provisional: BTreeSet<(&String, &String)> =
        window.rows.iter().map(|row| (&row.device, &row.row_key)).collect();
    let redone = window.redone.iter().cloned();
    let dropped = window.replaced.iter().filter(|(device, key)| !provisional.contains(&(device, key)));
    let mut gone: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (device, key) in redone.chain(dropped.cloned()) {
        gone.entry(device).or_default().insert(key);
    }
    gone
}

fn texts(rows: &RecordBatch, name: &str) -> Result<Vec<String>, ArrowError> {
    let missing = || ArrowError::SchemaError(format!("rows have no column {name} of its type"));
    let column = rows.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    Ok(column.ok_or_else(missing)?.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
}

fn keys_of(rows: &RecordBatch) -> Result<BTreeSet<String>, ArrowError> {
    Ok(texts(rows, "row_key")?.into_iter().collect())
}

fn keyed(rows: &RecordBatch) -> Result<BTreeMap<String, usize>, ArrowError> {
    Ok(texts(rows, "row_key")?.into_iter().zip(0..).collect())
}

#[cfg(test)]
mod tests;
