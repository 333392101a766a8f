//! The streams Headwater itself sends, `hw/clock` and `hw/gaps`, and what the collector adds to both from its own side.

use super::{Arriving, Folder, whose};
use crate::commit::cells::Cell;
use crate::commit::clock_rows::clock_cells;
use crate::dedup::StreamKey;
use crate::ingest::group::{Reason, RecordedGap};
use crate::land::LandedMessage;
use crate::resolve::{ClockRow, Constraint, Incoming, Statement, statements_of};
use headwater_core::batch::{Rows, StreamRef};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootOrdinal, Seq, Sha256};
use headwater_core::sample::Value;
use headwater_core::time::{BootNanos, Grade, NS_PER_S, UtcNanos};
use std::ops::Range;

/// How often the collector's own half of an exchange is recorded: as often as a quiet gateway asks the time.
const HALF_EVERY_NS: i64 = 64 * NS_PER_S;

impl Folder {
    pub(super) fn clock_rows(&mut self, arriving: &Arriving<'_>, rows: &Rows) {
        for row in 0..rows.len() {
            let seq = rows.first_seq.0.saturating_add(row as u64);
            let values: Vec<Value> = rows.fields.iter().map(|column| column.value(row)).collect();
            let schema = &arriving.declared.schema;
            let Some(said) = clock_cells(schema, &values) else {
                let detail = "row of hw/clock has no known row_kind, source and grade";
                self.set_rows_aside(arriving, rows, seq..seq.saturating_add(1), Reason::Clock, detail);
                continue;
            };
            let received = self.settings.latest(arriving.message.received);
            for statement in ClockRow::from_values(schema, &values).iter().flat_map(statements_of) {
                self.tracks.observe(whose(&arriving.key, rows.boot_ordinal), statement, received);
            }
            let mut cells = self.group.event(arriving.message.received, &arriving.key.device);
            // What the row says itself goes last and so over these: b1 and domain are its stamp's where it says none.
            cells.extend([
                ("epoch", arriving.key.epoch.to_string().into()),
                ("boot_ordinal", rows.boot_ordinal.0.into()),
                ("seq", seq.into()),
                ("declared_by", "agent".into()),
                ("b1_ns", rows.t_ns(row).into()),
                ("domain", rows.domain.to_string().into()),
            ]);
            cells.extend(said.into_iter().filter(|(_, cell)| *cell != Cell::Null));
            self.group.clock.push(cells);
        }
    }

    /// A signed message proves that its boot line was at T1 no later than T2: half an exchange, for free.
    pub(super) fn half(&mut self, message: &LandedMessage) {
        let boot = BootOrdinal(message.sent.boot_ordinal);
        let place = (message.device.device.clone(), message.epoch, boot);
        let bucket = message.sent.ns.div_euclid(HALF_EVERY_NS);
        if self.halves.get(&place).is_some_and(|last| bucket <= *last) {
            return;
        }
        self.halves.insert(place, bucket);
        let half_ns = self.settings.clock_half_ns;
        // A time of receipt from before the collector's clock was known to be right promises nothing.
        let steady = message.received >= self.settings.clock_steady_since;
        let grade = self.settings.clock_grade.min(if steady { Grade::Guaranteed } else { Grade::Estimated });
        let constraint = Constraint::Exchange {
            sent: Some((BootNanos(message.sent.ns), message.received)),
            answered: None,
            e_c_ns: half_ns,
            grade,
        };
        let whose = Incoming { device: &message.device.device, epoch: message.epoch, boot };
        self.tracks.observe(whose, Statement::Constraint(constraint), None);
        let mut cells = self.group.event(message.received, &message.device.device);
        cells.extend([
            ("epoch", message.epoch.to_string().into()),
            ("boot_ordinal", boot.0.into()),
            ("row_kind", "exchange".into()),
            ("declared_by", "collector".into()),
            ("t1_ns", message.sent.ns.into()),
            ("t2_ns", message.received.0.into()),
            ("e_c_ns", half_ns.into()),
            ("source", "collector_exchange".into()),
            ("grade", grade.as_str().into()),
        ]);
        self.group.clock.push(cells);
    }

    pub(super) fn gap_rows(&mut self, arriving: &Arriving<'_>, rows: &Rows) {
        for row in 0..rows.len() {
            let seq = rows.first_seq.0.saturating_add(row as u64);
            let values: Vec<Value> = rows.fields.iter().map(|column| column.value(row)).collect();
            let Some(gap) = GapRecord::from_values(&values) else {
                let detail = "row of hw/gaps is no gap record";
                self.set_rows_aside(arriving, rows, seq..seq.saturating_add(1), Reason::Schema, detail);
                continue;
            };
            let key = StreamKey { stream: gap.stream.clone(), ..arriving.key.clone() };
            let missing = gap.seq_first.0..gap.seq_last.0.saturating_add(1);
            self.ledger.declare_gap(&key, missing.clone(), gap.stride.into(), gap.phase.into());
            gap.explained().for_each(|seqs| self.release(arriving, &key, seqs));
            let id = Sha256::of(format!("{}/{seq}", arriving.key).as_bytes()).to_string();
            self.group.gaps.push(RecordedGap {
                device: arriving.key.device.clone(),
                epoch: arriving.key.epoch,
                id: id.chars().take(32).collect(),
                gap,
                declared_by: "agent",
                received: arriving.message.received,
                closed: false,
            });
        }
    }

    /// A row whose blob was given up by the gateway goes in without it.
    fn release(&mut self, arriving: &Arriving<'_>, key: &StreamKey, seqs: Range<u64>) {
        let named = StreamRef::Name(key.stream.clone());
        let Some(stream) = self.registry.stream_id(&arriving.message.device, key.epoch, &named) else {
            return;
        };
        for row in self.waiting.release((&key.device, key.epoch, stream), seqs.clone()) {
            self.without_blob(row);
        }
        self.unclaimed(key, stream, seqs);
    }

    /// Records that the collector itself will never admit these seqs (D2).
    pub(super) fn gap_by_collector(
        &mut self,
        key: &StreamKey,
        seqs: Range<u64>,
        cause: GapCause,
        note: &str,
        received: UtcNanos,
    ) {
        self.ledger.declare_missing(key, seqs.clone());
        let gap = self.collector_gap(key, seqs, cause, note, received);
        self.group.gaps.push(gap);
    }

    /// Closes such a gap: its rows came after all.
    pub(super) fn close_gap(
        &mut self,
        key: &StreamKey,
        seqs: Range<u64>,
        cause: GapCause,
        note: &str,
        received: UtcNanos,
    ) {
        let gap = self.collector_gap(key, seqs, cause, note, received);
        self.group.gaps.push(RecordedGap { closed: true, ..gap });
    }

    /// A gap record of the collector's own; told of the same seqs and cause it is the same gap.
    pub(super) fn collector_gap(
        &self,
        key: &StreamKey,
        seqs: Range<u64>,
        cause: GapCause,
        note: &str,
        received: UtcNanos,
    ) -> RecordedGap {
        let id = Sha256::of(format!("{key}/{}..{}/{}", seqs.start, seqs.end, cause.cause()).as_bytes())
            .to_string();
        RecordedGap {
            device: key.device.clone(),
            epoch: key.epoch,
            id: id.chars().take(32).collect(),
            gap: GapRecord {
                stream: key.stream.clone(),
                boot_ordinal: BootOrdinal(0),
                seq_first: Seq(seqs.start),
                seq_last: Seq(seqs.end.saturating_sub(1)),
                cause,
                stride: 0,
                phase: 0,
                rows: seqs.end.saturating_sub(seqs.start),
                bytes: 0,
                b_first: BootNanos(0),
                b_last: BootNanos(0),
                policy_version: 0,
                note: note.to_owned(),
            },
            declared_by: "collector",
            received,
            closed: false,
        }
    }
}
