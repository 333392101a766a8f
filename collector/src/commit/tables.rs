//! The declarations of our tables: the columns of `ops.*`, and those every `raw.*` and `aligned.*` table begins with.

use headwater_lake::{ColumnSpec, ColumnType, TableName, TableSpec};
use std::collections::BTreeMap;

/// Largest picture kept inside its row; a larger one is an object of its own and the row holds its path.
pub const INLINE_BLOB_BYTES_MAX: usize = 4 << 20;

/// Order of rows in files: by device and time, then by what makes a row unique.
pub const RAW_SORT: [&str; 5] = ["device", "ts", "stream", "epoch", "seq"];

/// The tables of `ops`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ops {
    /// One row per landed message.
    Batches,
    /// Which seqs are held, coalesced.
    Ledger,
    /// What is known of clocks.
    Clock,
    /// Why seqs are missing.
    Gaps,
    /// What was declared.
    Schemas,
    /// Who presented itself.
    Devices,
    /// What the gate said.
    Verdicts,
    /// What could not be admitted.
    Quarantine,
    /// Rows whose time a better clock track would change.
    Corrections,
}

impl Ops {
    /// All of them.
    pub const ALL: [Ops; 9] = [
        Self::Batches,
        Self::Ledger,
        Self::Clock,
        Self::Gaps,
        Self::Schemas,
        Self::Devices,
        Self::Verdicts,
        Self::Quarantine,
        Self::Corrections,
    ];

    /// `ops.<name>`.
    #[must_use]
    pub fn table(self) -> TableName {
        let name = match self {
            Self::Batches => "ops.batches",
            Self::Ledger => "ops.ledger",
            Self::Clock => "ops.clock",
            Self::Gaps => "ops.gaps",
            Self::Schemas => "ops.schemas",
            Self::Devices => "ops.devices",
            Self::Verdicts => "ops.verdicts",
            Self::Quarantine => "ops.quarantine",
            Self::Corrections => "ops.corrections",
        };
        TableName::new(name).expect("these names follow the rule")
    }

    /// The declaration.
    #[must_use]
    pub fn spec(self) -> TableSpec {
        let mut columns = vec![
            ColumnSpec::required("ts", ColumnType::Timestamptz)
                .with_doc("collector's time of the event, UTC"),
            ColumnSpec::required("ts_ns", ColumnType::Long).with_doc("the same, ns since 1970"),
            ColumnSpec::required("ts_err_ns", ColumnType::Long).with_doc("the collector's own bound, ns"),
            ColumnSpec { required: self != Self::Verdicts, ..text("device") },
        ];
        columns.extend(self.columns());
        TableSpec::new(self.table(), columns, &["device", "ts"])
    }

    fn columns(self) -> Vec<ColumnSpec> {
        match self {
            Self::Batches => mixed(
                "digest:s key_serial:s signature:b epoch:s msg_kind:s lane sent_boot_ordinal sent_b_ns received_ns \
                 bytes rows receiver:s incarnation:s landing_n landing_offset",
            ),
            Self::Ledger => mixed(
                "epoch:s stream:s seq_lo seq_hi rows bytes kind:s schema_fp boot_ordinal domain:s b_lo_ns b_hi_ns \
                 t_min_ns t_max_ns grade_worst:s track state:s receiver:s incarnation:s landing_lo landing_hi \
                 agent_version:s",
            ),
            Self::Clock => mixed(
                "epoch:s boot_ordinal boot_id:s seq row_kind:s declared_by:s b1_ns real_ns b2_ns raw_ns half_ns t1_ns \
                 t2_ns t3_ns t4_ns e_c_ns source:s source_id grade:s latency_ns domain:s ping_bytes pong_bytes baud \
                 tick_ns event:s before_ns after_ns stream:s next_seq promise_b_ns offset_ns bound_ns rho_ppb track \
                 detail:s step_ns freq_ppb w_ping_ns w_pong_ns",
            ),
            Self::Gaps => mixed(
                "gap_id:s epoch:s stream:s seq_lo seq_hi rows bytes stride phase reason:s cause:s policy_version \
                 declared_by:s boot_ordinal b_lo_ns b_hi_ns t_lo_ns t_hi_ns state:s detail:s",
            ),
            Self::Schemas => mixed(
                "epoch:s stream_id stream:s kind:s modality:s time_exp schema_fp schema_hash:s canonical:b fields:s \
                 state:s reason:s",
            ),
            Self::Devices => mixed(
                "epoch:s state:s tls_serial:s sign_key_id:s sign_serial:s sign_chain:b not_before not_after \
                 agent_version:s arch:s boot_ordinal last_incarnation:s next_seq:s note:s",
            ),
            Self::Verdicts => mixed(
                "candidate:s ref:s table:s recipe_id:s gate:s gate_version:s verdict:s t_min_ns t_max_ns rows \
                 evidence:s evidence_digest:s published_as:s waived_by:s",
            ),
            Self::Quarantine => {
                let mut columns = mixed(
                    "topic:s lane stage:s reason:s detail:s epoch:s stream:s seq_lo seq_hi hash:s digest:s released_by:s \
                     stream_id schema_fp rows",
                );
                columns.push(blob("payload"));
                columns
            }
            Self::Corrections => mixed(
                "epoch:s boot_ordinal stream:s kind:s day rows rows_of_day reason:s grade_old:s grade_new:s track_old \
                 track_new b_lo_ns b_hi_ns t_min_ns t_max_ns shift_ns",
            ),
        }
    }
}

/// Columns every raw table begins with.
#[must_use]
pub fn raw_columns() -> Vec<ColumnSpec> {
    let mut columns = vec![
        ColumnSpec::required("device", ColumnType::String),
        ColumnSpec::required("stream", ColumnType::String),
        ColumnSpec::required("epoch", ColumnType::String).with_doc("life of the spool, 16 hex digits"),
        ColumnSpec::required("seq", ColumnType::Long).with_doc("gapless per device, epoch and stream"),
    ];
    columns.extend(stamp_columns());
    columns.extend(time_columns());
    columns.extend([
        long("track").with_doc("clock track the time was resolved with"),
        long("schema_fp").with_doc("fingerprint of the declaration, see ops.schemas"),
        ColumnSpec::optional("late", ColumnType::Boolean)
            .with_doc("received later than the allowed lateness"),
    ]);
    columns
}

fn stamp_columns() -> Vec<ColumnSpec> {
    vec![
        ColumnSpec::required("boot_ordinal", ColumnType::Long).with_doc("boot of the gateway"),
        ColumnSpec::required("boot_ns", ColumnType::Long).with_doc("stamp on the clock of `domain`, ns"),
        ColumnSpec::required("lat_lo_ns", ColumnType::Long)
            .with_doc("the event is at least this much earlier, ns"),
        ColumnSpec::required("lat_hi_ns", ColumnType::Long).with_doc("and at most this much, ns"),
        ColumnSpec::required("stamp_kind", ColumnType::String).with_doc("what the stamp refers to"),
        ColumnSpec::required("domain", ColumnType::String).with_doc("whose clock: boot or device:N"),
    ]
}

/// Resolved time: `ts`, `ts_ns`, `ts_err_ns`, `grade`.
#[must_use]
pub fn time_columns() -> Vec<ColumnSpec> {
    vec![
        ColumnSpec::required("ts", ColumnType::Timestamptz)
            .with_doc("resolved event time, UTC, µs rounded down"),
        ColumnSpec::required("ts_ns", ColumnType::Long).with_doc("the same, ns since 1970"),
        ColumnSpec::required("ts_err_ns", ColumnType::Long)
            .with_doc("the true time lies within ts_ns ± this, as far as the grade promises, ns"),
        ColumnSpec::required("grade", ColumnType::String).with_doc("guaranteed, estimated or ordering_only"),
    ]
}

/// The table of a kind.
///
/// # Errors
/// Never for a valid kind, whose rule is narrower than a table's.
pub fn raw_table(kind: &headwater_core::id::KindName) -> Result<TableName, headwater_lake::NameError> {
    TableName::new(format!("raw.{kind}"))
}

/// An optional text column.
#[must_use]
pub fn text(name: &str) -> ColumnSpec {
    ColumnSpec::optional(name, ColumnType::String)
}

/// An optional integer column.
#[must_use]
pub fn long(name: &str) -> ColumnSpec {
    ColumnSpec::optional(name, ColumnType::Long)
}

/// An object: its bytes inside the row, or the path below the lake's root.
#[must_use]
pub fn blob(name: &str) -> ColumnSpec {
    let members = vec![
        ColumnSpec::optional("bytes", ColumnType::Binary),
        ColumnSpec::optional("path", ColumnType::String),
    ];
    ColumnSpec::optional(name, ColumnType::Struct(members))
}

/// The sources of one aligned value (L1).
#[must_use]
pub fn source_column(name: &str) -> ColumnSpec {
    let members = vec![
        text("stream"),
        text("epoch"),
        long("seq_lo"),
        long("seq_hi"),
        long("dt_ns"),
        long("err_ns"),
        ColumnSpec::optional("n", ColumnType::Int),
        ColumnSpec::optional("flag", ColumnType::Int),
    ];
    ColumnSpec::optional(name, ColumnType::Struct(members))
        .with_doc("source samples, distance and uncertainty")
}

/// `name` is an integer column, `name:s` text, `name:b` bytes.
fn mixed(list: &str) -> Vec<ColumnSpec> {
    list.split_whitespace()
        .map(|item| match item.split_once(':') {
            Some((name, "s")) => text(name),
            Some((name, _)) => ColumnSpec::optional(name, ColumnType::Binary),
            None => long(item),
        })
        .collect()
}

/// Properties of a table made from a kind or recipe.
#[must_use]
pub fn properties<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declaration_is_a_table() {
        for ops in Ops::ALL {
            ops.spec().check().unwrap();
        }
        let name = TableName::new("raw.imu").unwrap();
        TableSpec::new(name, raw_columns(), &RAW_SORT).check().unwrap();
    }

    #[test]
    fn columns_are_those_of_the_design() {
        let names = |spec: TableSpec| spec.columns.into_iter().map(|c| c.name).collect::<Vec<_>>().join(" ");
        assert_eq!(
            names(Ops::Ledger.spec()),
            "ts ts_ns ts_err_ns device epoch stream seq_lo seq_hi rows bytes kind schema_fp boot_ordinal domain \
             b_lo_ns b_hi_ns t_min_ns t_max_ns grade_worst track state receiver incarnation landing_lo landing_hi \
             agent_version"
        );
        let raw: Vec<String> = raw_columns().into_iter().map(|c| c.name).collect();
        assert_eq!(
            raw.join(" "),
            "device stream epoch seq boot_ordinal boot_ns lat_lo_ns lat_hi_ns stamp_kind domain ts ts_ns ts_err_ns \
             grade track schema_fp late"
        );
    }
}
