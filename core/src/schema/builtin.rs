//! The kinds Headwater itself defines: clock samples, gaps, fixes and pictures.

use super::{Field, Logical, Modality, Schema};

/// Name of the built-in stream of clock samples.
pub const CLOCK_STREAM: &str = "hw/clock";
/// Name of the built-in stream of gap records.
pub const GAPS_STREAM: &str = "hw/gaps";

fn schema(kind: &str, modality: Modality, time_exp: u8, fields: &[(&str, Logical, &str, bool)]) -> Schema {
    Schema {
        salt: 0,
        kind: kind.parse().expect("built-in kinds follow the rule"),
        modality,
        time_exp,
        fields: fields
            .iter()
            .map(|(name, logical, unit, nullable)| Field {
                name: name.parse().expect("built-in field names follow the rule"),
                logical: logical.clone(),
                nullable: *nullable,
                unit: (*unit).to_owned(),
            })
            .collect(),
    }
}

/// Kind `clock`, stream `hw/clock`: what the gateway knows of UTC. Times in ns.
///
/// `row_kind` says which fields a row has; `source` is where its time came from, `grade` a code of
/// [`crate::time::Grade`]: what the source may claim.
///
/// | row_kind | fields |
/// |---|---|
/// | boot | `b1` `real` `b2` `raw` `boot_id` `rho_ppb` (declared of the board's crystal) `detail` |
/// | sample | `b1` `real` `b2` `raw` `half` (of the source) `freq_ppb` `detail`: real was right within half somewhere in \[b1, b2\] |
/// | exchange | `t1` `t4` (boot time) `t2` `t3` (UTC) `e_c` `source_id`; `t1`, `t2` or `t3`, `t4` may be null |
/// | edge | `b1` (boot time of a pulse's edge, or of the end of a sentence) `real` (its UTC second) `half` (declared latency: real ≤ U(b1) ≤ real + half; null = no upper bound) |
/// | device_exchange | `domain` `t1` `t4` (boot time) `t2` `t3` (device time, ns) `w_ping` `w_pong` (least time on the wire) `rho_ppb` `detail` |
/// | event | `event` `b1` `real` `step` (wall clock after minus before) `domain` `detail`: each opens a segment |
#[must_use]
pub fn clock() -> Schema {
    let sources = [
        "none",
        "kernel",
        "chrony",
        "timesyncd",
        "collector_exchange",
        "gps_serial",
        "gps_pps",
        "rtc",
        "manual",
        "ptp",
        "device",
    ];
    let kinds = ["boot", "sample", "exchange", "event", "edge", "device_exchange"];
    let events = ["step", "leap", "suspend", "resume", "source_change", "device_restart"];
    let list = |names: &[&str]| Logical::Enum(names.iter().map(|name| (*name).to_owned()).collect());
    schema(
        "clock",
        Modality::Scalars,
        0,
        &[
            ("row_kind", list(&kinds), "1", false),
            ("b1", Logical::I64, "ns", true),
            ("real", Logical::I64, "ns", true),
            ("b2", Logical::I64, "ns", true),
            ("raw", Logical::I64, "ns", true),
            ("half", Logical::I64, "ns", true),
            ("source", list(&sources), "1", false),
            ("grade", Logical::U8, "1", false),
            ("t1", Logical::I64, "ns", true),
            ("t2", Logical::I64, "ns", true),
            ("t3", Logical::I64, "ns", true),
            ("t4", Logical::I64, "ns", true),
            ("e_c", Logical::I64, "ns", true),
            ("source_id", Logical::I64, "1", true),
            ("boot_id", Logical::Fixed(16), "1", true),
            ("detail", Logical::Utf8, "1", true),
            ("event", list(&events), "1", true),
            ("step", Logical::I64, "ns", true),
            ("freq_ppb", Logical::I64, "1", true),
            ("domain", Logical::U32, "1", true),
            ("w_ping", Logical::I64, "ns", true),
            ("w_pong", Logical::I64, "ns", true),
            ("rho_ppb", Logical::I64, "1", true),
        ],
    )
}

/// Kind `gaps`, stream `hw/gaps`: one row per run of missing seqs ([`crate::gap::GapRecord`]).
#[must_use]
pub fn gaps() -> Schema {
    schema(
        "gaps",
        Modality::Scalars,
        3,
        &[
            ("stream", Logical::Utf8, "1", false),
            ("boot_ordinal", Logical::U32, "1", false),
            ("seq_first", Logical::I64, "1", false),
            ("seq_last", Logical::I64, "1", false),
            ("reason", Logical::U8, "1", false),
            ("detail", Logical::U8, "1", false),
            ("stride", Logical::U32, "1", false),
            ("phase", Logical::U32, "1", false),
            ("rows", Logical::I64, "1", false),
            ("bytes", Logical::I64, "By", false),
            ("b_first", Logical::I64, "ns", false),
            ("b_last", Logical::I64, "ns", false),
            ("policy_version", Logical::U32, "1", false),
            ("note", Logical::Utf8, "1", false),
        ],
    )
}

/// Kind `gps_fix`: one position a receiver reported (NMEA cycle of RMC, GGA, VTG and the like).
///
/// `utc` is the receiver's own time of the fix, ns since 1970. `quality` is GGA's fix quality
/// (0 none, 1 GPS, 2 differential, 4 RTK fixed, 5 RTK float, 6 dead reckoning).
#[must_use]
pub fn gps_fix() -> Schema {
    schema(
        "gps_fix",
        Modality::Fix,
        3,
        &[
            ("lat", Logical::F64, "deg", true),
            ("lon", Logical::F64, "deg", true),
            ("alt_msl", Logical::F64, "m", true),
            ("geoid_sep", Logical::F64, "m", true),
            ("sog", Logical::F64, "m/s", true),
            ("cog", Logical::F64, "deg", true),
            ("hdop", Logical::F64, "1", true),
            ("satellites", Logical::U8, "1", true),
            ("quality", Logical::U8, "1", true),
            ("utc", Logical::I64, "ns", true),
        ],
    )
}

/// Kind `image`: a picture as the camera made it; the bytes travel as a blob beside the row.
#[must_use]
pub fn image() -> Schema {
    schema(
        "image",
        Modality::Image,
        3,
        &[
            ("image", Logical::Blob, "1", false),
            ("mime", Logical::Utf8, "1", false),
            ("width", Logical::U32, "1", false),
            ("height", Logical::U32, "1", false),
            ("name", Logical::Utf8, "1", true),
        ],
    )
}
