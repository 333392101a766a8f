//! One script for two devices: each step is a line for the C helper, and the same lines come back from the Rust side.

use headwater_shims::device::{Device, DeviceSpec, StreamSpec, Wish};
use headwater_shims::link::{BuildError, Field, LinkStats, LogLevel, ReplyCode};
use headwater_shims::tx::Offered;

use crate::common::hex;

/// A step; `t` is device time in microseconds.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Bytes of the host, 1 us apart.
    In { t: u64, bytes: Vec<u8> },
    /// The main loop comes by.
    Poll { t: u64 },
    /// Packed rows, maybe wrong ones.
    Sample { stream: u8, t: u64, dt: u16, count: u8, rows: Vec<u8> },
    /// A log line.
    Log { level: u8, t: u64, text: String },
    /// Bytes leave one by one.
    Out { t: u64, most: usize },
    /// A part of one chunk leaves.
    Chunk { t: u64, most: usize },
    /// The open request is answered.
    Reply { code: u8, t: u64, data: Vec<u8> },
    /// A stream gets another period.
    Period { stream: u8, period_us: u32 },
    /// A stream gets another description, by its place in the list of all.
    Redescribe { stream: u8, spec: usize },
    /// The device's own counters are set to 0.
    Reset,
    /// All counters are read.
    Stats,
}

impl Step {
    /// The step as the helper takes it.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::In { t, bytes } => format!("in {t} {}", hex(bytes)),
            Self::Poll { t } => format!("poll {t}"),
            Self::Sample { stream, t, dt, count, rows } => {
                format!("sample {stream} {t} {dt} {count} {}", hex(rows))
            }
            Self::Log { level, t, text } => format!("log {level} {t} {}", hex(text.as_bytes())),
            Self::Out { t, most } => format!("out {t} {most}"),
            Self::Chunk { t, most } => format!("chunk {t} {most}"),
            Self::Reply { code, t, data } => format!("reply {code} {t} {}", hex(data)),
            Self::Period { stream, period_us } => format!("period {stream} {period_us}"),
            Self::Redescribe { stream, spec } => format!("redescribe {stream} {spec}"),
            Self::Reset => "reset".to_owned(),
            Self::Stats => "stats".to_owned(),
        }
    }

    /// Takes the step on the Rust side; says what the helper would.
    pub(crate) fn take<'a, const S: usize, const RX: usize, const TX: usize>(
        &self,
        device: &mut Device<'a, S, RX, TX>,
        all: &'a [StreamSpec<'a>],
    ) -> Vec<String> {
        match self {
            Self::In { t, bytes } => (*t..)
                .zip(bytes)
                .filter_map(|(t, byte)| device.receive(*byte, t))
                .map(|request| match request.wish {
                    Wish::Config { key, value } => format!("config {} {key} {value}", request.stream),
                    Wish::Command { command, args } => {
                        format!("command {} {command} {}", request.stream, hex(args.as_bytes()))
                    }
                })
                .collect(),
            Self::Poll { t } => {
                device.poll(*t);
                vec![]
            }
            Self::Sample { stream, t, dt, count, rows } => {
                vec![code(device.packed_samples(*stream, *t, *dt, *count, rows))]
            }
            Self::Log { level, t, text } => {
                vec![code(Ok(device.log(LogLevel::from_code(*level), text, *t)))]
            }
            Self::Out { t, most } => {
                vec![hex(&(0..*most).map_while(|_| device.next_byte(*t)).collect::<Vec<_>>())]
            }
            Self::Chunk { t, most } => {
                let chunk = device.chunk(*t);
                let chunk = chunk[..chunk.len().min(*most)].to_vec();
                device.sent(chunk.len());
                vec![hex(&chunk)]
            }
            Self::Reply { code: result, t, data } => {
                let done = device.reply(ReplyCode::from_code(*result), data, *t);
                vec![code(done.map(|()| Offered::Queued))]
            }
            Self::Period { stream, period_us } => {
                vec![code(device.set_period_us(*stream, *period_us).map(|()| Offered::Queued))]
            }
            Self::Redescribe { stream, spec } => {
                vec![code(device.describe(*stream, &all[*spec]).map(|()| Offered::Queued))]
            }
            Self::Reset => {
                device.reset_counters();
                vec![]
            }
            Self::Stats => stats(device),
        }
    }
}

/// What the C functions return.
pub(crate) fn code(result: Result<Offered, BuildError>) -> String {
    let code = match result {
        Ok(Offered::Queued) => 0,
        Ok(Offered::Dropped) => 1,
        Err(BuildError::NoRoom) => -1,
        Err(BuildError::NoRows) => -2,
        Err(BuildError::RowBytes) => -3,
        Err(BuildError::UnknownStream) => -4,
        Err(BuildError::DataTooLong) => -5,
        Err(BuildError::NoRequest) => -6,
        Err(BuildError::QueueTooSmall) => -7,
        Err(BuildError::MaxRx) => -8,
        Err(BuildError::HelloIndex) => -9,
        Err(other) => panic!("C has no code for {other:?}"),
    };
    code.to_string()
}

/// The line that tells the helper of a stream.
pub(crate) fn stream_line(spec: &StreamSpec<'_>) -> String {
    let head = format!("stream {} {} {}", hex(spec.kind.as_bytes()), spec.period_us, spec.fields.len());
    spec.fields.iter().fold(head, |line, Field { field_type, scale10, name, unit }| {
        let (name, unit) = (hex(name.as_bytes()), hex(unit.as_bytes()));
        format!("{line} {} {scale10} {name} {unit}", field_type.code())
    })
}

/// The line that lets the helper begin with the first `S` streams.
pub(crate) fn device_line<const S: usize>(
    spec: &DeviceSpec<'_, S>,
    nonce: u32,
    rx: usize,
    tx: usize,
) -> String {
    let (caps, t2) = (spec.caps.bits(), spec.t2_point.code());
    let (uid, firmware) = (hex(spec.uid.as_bytes()), hex(spec.firmware.as_bytes()));
    format!("device {S} {nonce} {caps} {t2} {} {} {uid} {firmware} {rx} {tx}", spec.tick_ns, spec.clock_ppm)
}

fn stats<const S: usize, const RX: usize, const TX: usize>(device: &Device<'_, S, RX, TX>) -> Vec<String> {
    let stats = device.stats();
    let mut lines = vec![
        format!(
            "dropped {} replaced {} idle {} deadline {}",
            device.dropped(),
            device.pongs_replaced(),
            u8::from(device.is_idle()),
            device.deadline_us().unwrap_or(u64::MAX)
        ),
        format!(
            "samples {} logs {} limited {}",
            stats.samples_dropped, stats.logs_dropped, stats.logs_limited
        ),
        format!(
            "stale {} ignored {} repeated {} refused {}",
            stats.requests_stale, stats.requests_ignored, stats.requests_repeated, stats.frames_refused
        ),
    ];
    let streams = (0..=u8::MAX).map_while(|stream| device.next_seq(stream));
    lines.extend(streams.map(|next| format!("next_seq {next}")));
    lines.extend(link_stats(device.link_stats()));
    lines
}

/// The decoder's counters, one line each.
pub(crate) fn link_stats(stats: LinkStats) -> Vec<String> {
    vec![
        format!("bytes: {}", stats.bytes),
        format!("hunted_bytes: {}", stats.hunted_bytes),
        format!("frame_bytes: {}", stats.frame_bytes),
        format!("rejected_bytes: {}", stats.rejected_bytes),
        format!("idle_bytes: {}", stats.idle_bytes),
        format!("pending_bytes: {}", stats.pending_bytes),
        format!("frames: {}", stats.frames),
        format!("unknown_frames: {}", stats.unknown_frames),
        format!("stuffing_errors: {}", stats.stuffing_errors),
        format!("short_errors: {}", stats.short_errors),
        format!("oversize_errors: {}", stats.oversize_errors),
        format!("checksum_errors: {}", stats.checksum_errors),
    ]
}
