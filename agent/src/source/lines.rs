//! Decodes lines of declared fields, as simple boards and programs print them: CSV or JSON objects.
//!
//! CSV here is plain: no quotes; blanks around values are dropped; an empty value is a missing one.
//! Empty lines and lines that begin with `#` are skipped.

use super::arrival::{Arrivals, ReadAt};
use super::framing::{Decoded, Notice};
use crate::config::{LineFormat, LineSettings};
use crate::telemetry::Counter;
use headwater_core::gap::GapCause;
use headwater_core::id::StreamName;
use headwater_core::ports::SourceEvent;
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::{Field, Logical};
use headwater_core::time::{BootNanos, ClockDomain, StampKind};

/// Longest line, bytes: 64 numbers of full precision are below 2 KiB.
pub const LINE_BYTES_MAX: usize = 16 * 1_024;

/// State of one stream of lines.
#[derive(Debug)]
pub struct LineDecoder {
    stream: StreamName,
    arrivals: Arrivals,
    /// Programs keep lines back to print many at once, serial lines do not.
    program: bool,
    settings: LineSettings,
    declared: bool,
    line: Vec<u8>,
    /// Bytes since the last line end, those of a line that is skipped among them.
    open_bytes: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// A port may be opened in the middle of a line: that one is skipped.
    Hunting,
    Collecting,
    /// After an overlong line, before its end.
    Skipping,
}

impl LineDecoder {
    /// Lines of a program: the first byte begins the first line.
    #[must_use]
    pub fn of_program(stream: StreamName, arrivals: Arrivals, settings: LineSettings) -> Self {
        Self {
            stream,
            arrivals,
            program: true,
            settings,
            declared: false,
            line: Vec::new(),
            open_bytes: 0,
            state: State::Collecting,
        }
    }

    /// Lines of a serial port: what comes before the first line end is skipped.
    #[must_use]
    pub fn of_port(stream: StreamName, arrivals: Arrivals, settings: LineSettings) -> Self {
        Self { state: State::Hunting, program: false, ..Self::of_program(stream, arrivals, settings) }
    }

    /// The port holds bytes back for up to `hold_ns`.
    pub fn port(&mut self, hold_ns: i64) {
        self.arrivals.hold_ns = hold_ns;
    }

    /// Takes the bytes of a read.
    pub fn push(&mut self, bytes: &[u8], read: ReadAt, out: &mut Decoded) {
        self.declare(out);
        let read = self.bundled(bytes, read, out);
        let at = read.at;
        for (place, byte) in bytes.iter().enumerate() {
            let own = self.open_bytes.saturating_add(1);
            self.open_bytes = if *byte == b'\n' { 0 } else { own };
            match (self.state, *byte) {
                (State::Hunting | State::Skipping, b'\n') => self.state = State::Collecting,
                (State::Hunting | State::Skipping, _) => out.noise(1),
                (State::Collecting, b'\n') => {
                    let line = std::mem::take(&mut self.line);
                    let after = bytes.len().saturating_sub(place).saturating_sub(1);
                    self.line(&line, read, (own, after), out);
                }
                (State::Collecting, byte) if self.line.len() < LINE_BYTES_MAX => self.line.push(byte),
                (State::Collecting, _) => {
                    self.state = State::Skipping;
                    let line = std::mem::take(&mut self.line);
                    self.refuse(&line, format!("line is longer than {LINE_BYTES_MAX} bytes"), at, out);
                }
            }
        }
    }

    /// Lines of a program that came together may have waited in its own buffer since the read before: unless their delay
    /// is declared, they are as old as that.
    fn bundled(&self, bytes: &[u8], read: ReadAt, out: &mut Decoded) -> ReadAt {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        if !self.program || self.arrivals.declared.most_ns.is_some() || lines < 2 {
            return read;
        }
        out.notices.push(Notice::Count(Counter::LinesBundled, lines as u64));
        ReadAt { away_ns: read.away_ns.max(read.since_ns), ..read }
    }

    /// The program ended: a last line without its end counts too.
    pub fn ended(&mut self, at: BootNanos, out: &mut Decoded) {
        if self.state == State::Collecting {
            let line = std::mem::take(&mut self.line);
            self.line(&line, ReadAt::prompt(at), (line.len(), 0), out);
        }
        self.line.clear();
        self.open_bytes = 0;
        self.state = State::Collecting;
    }

    /// The port was opened again: hunts for the next line.
    pub fn reopened(&mut self, out: &mut Decoded) {
        out.noise(self.line.len() as u64);
        self.line.clear();
        self.open_bytes = 0;
        self.state = State::Hunting;
    }

    fn declare(&mut self, out: &mut Decoded) {
        if !std::mem::replace(&mut self.declared, true) {
            let (name, schema) = (self.stream.clone(), self.settings.schema.clone());
            out.events.push_back(SourceEvent::Stream { name, schema });
        }
    }

    fn line(&mut self, line: &[u8], read: ReadAt, (own, after): (usize, usize), out: &mut Decoded) {
        let at = read.at;
        let text = line.trim_ascii();
        if text.is_empty() || text.starts_with(b"#") {
            return;
        }
        match self.values(text) {
            Ok(values) => {
                let (kind, domain) = (StampKind::Arrival, ClockDomain::BOOT);
                let latency = self.arrivals.latency(read, own, after);
                let reading = Reading { t: at, latency, kind, domain, values, blob: None };
                out.reading(self.stream.clone(), reading);
            }
            Err(why) => self.refuse(text, why, at, out),
        }
    }

    fn refuse(&self, line: &[u8], why: String, at: BootNanos, out: &mut Decoded) {
        let (stream, cause) = (self.stream.clone(), GapCause::RejectedQuarantine);
        let bytes = line.to_vec();
        out.events.push_back(SourceEvent::SetAside { stream: stream.clone(), why: why.clone(), bytes, at });
        out.events.push_back(SourceEvent::Lost { stream, rows: 1, cause, at, note: why });
    }

    fn values(&self, line: &[u8]) -> Result<Vec<Value>, String> {
        let text = std::str::from_utf8(line).map_err(|_| "line is no text".to_owned())?;
        let fields = &self.settings.schema.fields;
        match self.settings.format {
            LineFormat::Csv(separator) => {
                let parts: Vec<&str> = text.split(char::from(separator)).map(str::trim).collect();
                if parts.len() != fields.len() {
                    return Err(format!("line has {} values, expected {}", parts.len(), fields.len()));
                }
                fields.iter().zip(parts).map(|(field, text)| from_text(field, text)).collect()
            }
            LineFormat::Json => {
                let object: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_str(text).map_err(|error| format!("line is no JSON object: {error}"))?;
                fields
                    .iter()
                    .map(|field| {
                        from_json(field, object.get(field.name.as_str()).unwrap_or(&serde_json::Value::Null))
                    })
                    .collect()
            }
        }
    }
}

fn fit(field: &Field, value: Value, shown: &str) -> Result<Value, String> {
    if value.fits(field) {
        return Ok(value);
    }
    let shown: String = shown.chars().take(40).collect();
    let (name, logical) = (field.name.as_str(), field.logical.name());
    Err(match value {
        Value::Null => format!("{name} is missing"),
        _ => format!("{name} is {shown:?}, which is no {logical}"),
    })
}

fn from_text(field: &Field, text: &str) -> Result<Value, String> {
    if text.is_empty() && field.logical != Logical::Utf8 {
        return fit(field, Value::Null, text);
    }
    let value = match field.logical {
        Logical::F64 => text.parse().ok().map(Value::F64),
        Logical::F32 => text.parse().ok().map(Value::F32),
        Logical::Utf8 => Some(Value::Utf8(text.to_owned())),
        Logical::U64 => text.parse::<u64>().ok().map(|n| Value::I64(n.cast_signed())),
        Logical::Bool => match text {
            "true" | "1" => Some(Value::I64(1)),
            "false" | "0" => Some(Value::I64(0)),
            _ => None,
        },
        _ => text.parse().ok().map(Value::I64),
    };
    // A value of another type fits nowhere and so gives the right words.
    fit(field, value.unwrap_or(Value::Bytes(Vec::new())), text)
}

fn from_json(field: &Field, json: &serde_json::Value) -> Result<Value, String> {
    if json.is_null() {
        return fit(field, Value::Null, "null");
    }
    let value = match field.logical {
        Logical::F64 => json.as_f64().map(Value::F64),
        #[expect(clippy::cast_possible_truncation, reason = "a single is what was declared")]
        Logical::F32 => json.as_f64().map(|v| Value::F32(v as f32)),
        Logical::Utf8 => json.as_str().map(|text| Value::Utf8(text.to_owned())),
        Logical::U64 => json.as_u64().map(|n| Value::I64(n.cast_signed())),
        Logical::Bool => json.as_bool().map(|b| Value::I64(b.into())),
        _ => json.as_i64().map(Value::I64),
    };
    fit(field, value.unwrap_or(Value::Bytes(Vec::new())), &json.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::arrival::Declared;
    use super::*;
    use headwater_core::schema::{Modality, Schema};
    use proptest::prelude::*;

    fn decoder(format: LineFormat) -> LineDecoder {
        let field = |name: &str, logical, nullable| Field {
            name: name.parse().unwrap(),
            logical,
            nullable,
            unit: "1".into(),
        };
        let schema = Schema {
            salt: 0,
            kind: "env".parse().unwrap(),
            modality: Modality::Scalars,
            time_exp: 3,
            fields: vec![
                field("t", Logical::F64, false),
                field("n", Logical::U8, true),
                field("on", Logical::Bool, true),
                field("note", Logical::Utf8, true),
            ],
        };
        let settings = LineSettings { schema, format };
        LineDecoder::of_program(
            "room".parse().unwrap(),
            Arrivals::of_program(Declared::default(), 1_000_000_000),
            settings,
        )
    }

    fn decode(format: LineFormat, text: &str) -> Vec<SourceEvent> {
        let (mut decoder, mut out) = (decoder(format), Decoded::default());
        decoder.push(text.as_bytes(), ReadAt::prompt(BootNanos(7)), &mut out);
        decoder.ended(BootNanos(8), &mut out);
        out.events.into_iter().skip(1).collect()
    }

    fn rows(events: &[SourceEvent]) -> Vec<Vec<Value>> {
        events
            .iter()
            .filter_map(|event| match event {
                SourceEvent::Reading { reading, .. } => Some(reading.values.clone()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn csv_lines_become_rows_and_bad_ones_are_set_aside_with_a_gap() {
        let events = decode(
            LineFormat::Csv(b','),
            "# t,n,on,note\n21.5, 3,1,ok\r\n\n-1,,,\n1,300,1,x\n1,2\n4,5,0,last",
        );
        let text = |s: &str| Value::Utf8(s.into());
        assert_eq!(
            rows(&events),
            [
                vec![Value::F64(21.5), Value::I64(3), Value::I64(1), text("ok")],
                vec![Value::F64(-1.0), Value::Null, Value::Null, text("")],
                vec![Value::F64(4.0), Value::I64(5), Value::I64(0), text("last")],
            ]
        );
        let whys: Vec<&str> = events
            .iter()
            .filter_map(|event| match event {
                SourceEvent::SetAside { why, .. } => Some(why.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(whys, ["n is \"300\", which is no u8", "line has 2 values, expected 4"]);
        let lost = events.iter().filter(|e| matches!(e, SourceEvent::Lost { rows: 1, .. })).count();
        assert_eq!(lost, 2);
    }

    #[test]
    fn json_lines_become_rows() {
        let events = decode(LineFormat::Json, "{\"t\": 1, \"on\": true, \"extra\": []}\n{\"n\": 1}\n[1]\n");
        assert_eq!(rows(&events), [vec![Value::F64(1.0), Value::Null, Value::I64(1), Value::Null]]);
        assert_eq!(events.len(), 1 + 2 * 2);
    }

    #[test]
    fn a_port_is_joined_at_the_next_line_and_an_endless_line_is_bounded() {
        let mut decoder = decoder(LineFormat::Csv(b','));
        decoder.state = State::Hunting;
        let mut out = Decoded::default();
        decoder.push(b"5,1,1,half\n1,2,1,x\n", ReadAt::prompt(BootNanos(0)), &mut out);
        assert_eq!(rows(&out.events.make_contiguous()[1..]).len(), 1);
        decoder.push(&vec![b'9'; 3 * LINE_BYTES_MAX], ReadAt::prompt(BootNanos(0)), &mut out);
        decoder.push(b"\n1,2,1,x\n", ReadAt::prompt(BootNanos(0)), &mut out);
        assert_eq!(rows(out.events.make_contiguous()).len(), 2);
        assert_eq!(out.events.iter().filter(|e| matches!(e, SourceEvent::SetAside { .. })).count(), 1);
    }

    fn latencies(decoder: &mut LineDecoder, text: &str, read: ReadAt) -> Vec<(u32, u32)> {
        let mut out = Decoded::default();
        decoder.push(text.as_bytes(), read, &mut out);
        let readings = out.events.into_iter().filter_map(|event| match event {
            SourceEvent::Reading { reading, .. } => Some(reading.latency),
            _ => None,
        });
        readings.map(|latency| (latency.lo_ns / 100_000, latency.hi_ns / 100_000)).collect()
    }

    #[test]
    fn a_line_that_came_with_others_is_older_by_their_bytes() {
        let wire = super::super::arrival::WireTime { baud: 9_600, paced: true };
        let arrivals = Arrivals { wire, ..Arrivals::of_program(Declared::default(), 100_000_000) };
        let settings = decoder(LineFormat::Csv(b',')).settings;
        let mut port = LineDecoder::of_port("room".parse().unwrap(), arrivals, settings);
        // Eight bytes a line, 8.3 ms; the first line end is where it joins.
        let text = "\n1,2,1,x\n1,2,1,y\n";
        let read = ReadAt { since_ns: 5_000_000_000, ..ReadAt::prompt(BootNanos(0)) };
        assert_eq!(latencies(&mut port, text, read), [(159, 1_274), (79, 1_187)]);
    }

    #[test]
    fn lines_a_program_printed_at_once_are_as_old_as_the_print_before() {
        let read = ReadAt { since_ns: 2_000_000_000, ..ReadAt::prompt(BootNanos(0)) };
        let mut program = decoder(LineFormat::Csv(b','));
        assert_eq!(latencies(&mut program, "1,2,1,x\n", read), [(0, 10_100)]);
        assert_eq!(latencies(&mut program, "1,2,1,x\n1,2,1,y\n", read), [(0, 30_100); 2]);
        // Declared, it is believed.
        program.arrivals.declared = Declared { least_ns: 1_000_000, most_ns: Some(50_000_000) };
        assert_eq!(latencies(&mut program, "1,2,1,x\n1,2,1,y\n", read), [(10, 500); 2]);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), json in any::<bool>()) {
            let mut decoder = decoder(if json { LineFormat::Json } else { LineFormat::Csv(b';') });
            let mut out = Decoded::default();
            decoder.push(&bytes, ReadAt::prompt(BootNanos(0)), &mut out);
            decoder.ended(BootNanos(0), &mut out);
            for row in rows(out.events.make_contiguous()) {
                prop_assert_eq!(row.len(), 4);
            }
        }
    }
}
