//! A simulated board on a line that loses, damages and restarts.

use super::super::arrival::Declared;
use super::*;
use crate::domains::DomainNumbers;
use headwater_core::gap::GapCause;
use headwater_core::ports::SourceEvent;
use headwater_core::sample::Value;
use headwater_core::schema::Logical;
use headwater_core::time::{Latency, StampKind};
use headwater_shims::link::{FieldType, Value as LinkValue};
use headwater_sim::device::{SimDevice, SimField, SimStream};
use proptest::prelude::*;

fn imu() -> SimStream {
    let mut temp = SimField::new("temp", "Cel", FieldType::I16);
    temp.scale10 = -2;
    SimStream {
        kind: "imu".into(),
        period_us: 10_000,
        fields: vec![SimField::new("ax", "m/s2", FieldType::F32), temp],
    }
}

fn row(n: u8) -> Vec<LinkValue> {
    vec![LinkValue::F32(f32::from(n)), LinkValue::I16(2_100 + i16::from(n))]
}

struct Line {
    device: SimDevice,
    link: LinkDecoding,
    now: BootNanos,
    out: Decoded,
}

fn arrivals() -> Arrivals {
    Arrivals::of_program(Declared::default(), 1_000_000)
}

impl Line {
    /// A line whose samples are stamped by their arrival.
    fn new(streams: Vec<SimStream>) -> Self {
        Self::using(streams, ClockUse::ARRIVAL)
    }

    /// A line whose samples are stamped by the board.
    fn clocked(streams: Vec<SimStream>) -> Self {
        Self::using(streams, ClockUse { numbers: Some(DomainNumbers::from_reserved(1)), ..ClockUse::ARRIVAL })
    }

    fn using(streams: Vec<SimStream>, uses: ClockUse) -> Self {
        Self {
            device: SimDevice::new(streams, 1),
            link: LinkDecoding::new("imu".parse().unwrap(), arrivals(), uses),
            now: BootNanos(1_000_000_000),
            out: Decoded::default(),
        }
    }

    fn us(&self) -> u64 {
        u64::try_from(self.now.0 / 1_000).unwrap()
    }

    /// Lets both ends say what is due, and carries it.
    fn talk(&mut self) {
        self.now = self.now.plus_ms(10);
        let (mut up, mut down) = (Vec::new(), Vec::new());
        self.device.poll(self.us(), &mut up).unwrap();
        self.link.push(&up, ReadAt::prompt(self.now), &mut self.out);
        self.link.poll(self.now, &mut down, &mut self.out);
        let mut answer = Vec::new();
        self.device.receive(&down, self.us(), &mut answer).unwrap();
        self.link.push(&answer, ReadAt::prompt(self.now), &mut self.out);
    }

    fn bytes(&mut self, rows: &[Vec<LinkValue>]) -> Vec<u8> {
        self.now = self.now.plus_ms(10 * rows.len() as u64);
        let mut bytes = Vec::new();
        self.device.sample(0, rows, self.us(), 10_000, &mut bytes).unwrap();
        bytes
    }

    fn send(&mut self, rows: &[Vec<LinkValue>]) {
        let bytes = self.bytes(rows);
        self.link.push(&bytes, ReadAt::prompt(self.now), &mut self.out);
    }

    fn take(&mut self) -> Vec<SourceEvent> {
        self.out.events.drain(..).collect()
    }
}

fn lost(events: &[SourceEvent]) -> Vec<(u64, GapCause)> {
    events
        .iter()
        .filter_map(|event| match event {
            SourceEvent::Lost { rows, cause, .. } => Some((*rows, *cause)),
            _ => None,
        })
        .collect()
}

fn readings(events: &[SourceEvent]) -> Vec<(&str, i64, &[Value])> {
    events
        .iter()
        .filter_map(|event| match event {
            SourceEvent::Reading { stream, reading } => {
                Some((stream.as_str(), reading.t.0, reading.values.as_slice()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn hello_becomes_a_schema_and_samples_become_rows_stamped_back_from_their_arrival() {
    let mut line = Line::new(vec![imu()]);
    line.talk();
    line.send(&[row(1), row(2), row(3)]);
    let at = line.now.0;
    let events = line.take();
    let SourceEvent::Stream { name, schema } = &events[0] else { panic!("{events:?}") };
    assert_eq!(name.as_str(), "imu");
    assert_eq!(schema.kind.as_str(), "imu");
    assert_eq!(schema.fields[1].logical, Logical::Scaled { num: 1, den: 100, offset: 0 });
    assert_eq!(schema.fields[1].unit, "Cel");
    let rows = readings(&events);
    assert_eq!(rows[0], ("imu", at - 20_000_000, &[Value::F32(1.0), Value::I64(2_101)][..]));
    assert_eq!(rows[2].1, at);
    assert_eq!((rows.len(), lost(&events)), (3, vec![]));
}

/// Domain and stamp of the readings, ns, and their latency.
fn stamps(events: &[SourceEvent]) -> Vec<(u32, i64, Latency, StampKind)> {
    let stamps = events.iter().filter_map(|event| match event {
        SourceEvent::Reading { reading, .. } => {
            Some((reading.domain.0, reading.t.0, reading.latency, reading.kind))
        }
        _ => None,
    });
    stamps.collect()
}

#[test]
fn rows_of_a_frame_are_stamped_one_by_one_on_the_boards_clock() {
    let mut line = Line::clocked(vec![imu()]);
    line.talk();
    // Taken before they came: rows of the future would be those of another clock.
    line.now = line.now.plus_ms(20);
    let us = line.us() - 20_000;
    let mut bytes = Vec::new();
    line.device.sample(0, &[row(1), row(2), row(3)], us, 10_000, &mut bytes).unwrap();
    line.link.push(&bytes, ReadAt::prompt(line.now), &mut line.out);
    let t = i64::try_from(us).unwrap() * 1_000;
    let exact = |t: i64| (1, t, Latency::NONE, StampKind::Instant);
    assert_eq!(stamps(&line.take()), [exact(t), exact(t + 10_000_000), exact(t + 20_000_000)]);
    // A coarse tick cuts times: the event may lie a tick after the cut one.
    let ticks = headwater_sim::device::SimTicks { tick_ns: 30_518, ..Default::default() };
    let mut line = Line::clocked(vec![imu()]);
    line.device = SimDevice::new(vec![imu()], 1).ticking(ticks);
    line.talk();
    line.send(&[row(1)]);
    let t = i64::try_from(line.us()).unwrap() * 1_000;
    let coarse = Latency { lo_ns: 0, hi_ns: 31_000 };
    assert_eq!(stamps(&line.take()), [(1, t + 31_000, coarse, StampKind::Instant)]);
}

#[test]
fn samples_before_the_schema_keep_the_clock_they_came_on() {
    let mut line = Line::clocked(vec![imu()]);
    line.send(&[row(1)]);
    line.device.reset(2);
    // The board's first sample since its boot, with its HELLO still unheard.
    line.now = line.now.plus_ms(3_000);
    line.send(&[row(2)]);
    line.talk();
    line.talk();
    let domains: Vec<u32> = stamps(&line.take()).iter().map(|(domain, ..)| *domain).collect();
    assert_eq!(domains, [1, 2]);
}

#[test]
fn time_without_samples_and_without_numbers_is_a_stall_and_no_gap() {
    for mut line in [Line::clocked(vec![imu()]), Line::new(vec![imu()])] {
        line.talk();
        line.send(&[row(0)]);
        line.now = line.now.plus_ms(3_100);
        line.send(&[row(1)]);
        line.send(&[row(2)]);
        assert_eq!(lost(&line.take()), []);
        let stalls: Vec<u64> = line
            .out
            .notices
            .iter()
            .filter_map(|notice| match notice {
                Notice::Stall { ms, .. } => Some(*ms),
                _ => None,
            })
            .collect();
        assert_eq!(stalls, [3_110]);
    }
}

#[test]
fn several_streams_hang_below_the_name() {
    let mut other = imu();
    other.kind = "baro".into();
    let mut line = Line::new(vec![imu(), other, imu()]);
    line.talk();
    let names: Vec<String> = line
        .take()
        .iter()
        .filter_map(|event| match event {
            SourceEvent::Stream { name, .. } => Some(name.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["imu/imu-0", "imu/baro", "imu/imu-2"]);
}

#[test]
fn samples_before_the_schema_wait_and_what_does_not_fit_is_lost_by_number() {
    let mut line = Line::new(vec![imu()]);
    for n in 0..80 {
        line.send(&[row(n)]);
    }
    assert!(line.take().is_empty());
    line.talk();
    let events = line.take();
    assert_eq!(lost(&events).iter().map(|(rows, _)| rows).sum::<u64>(), 16);
    assert!(lost(&events).iter().all(|(_, cause)| *cause == GapCause::Overrun));
    assert_eq!(readings(&events).len(), 64);
}

#[test]
fn each_kind_of_loss_has_its_cause() {
    let mut line = Line::new(vec![imu()]);
    line.talk();
    line.send(&[row(0)]);
    line.take();

    line.device.drop_rows(0, 3);
    line.now = line.now.plus_ms(30);
    line.send(&[row(4)]);
    assert_eq!(lost(&line.take()), [(3, GapCause::LinkDropped)]);

    let mut damaged = line.bytes(&[row(5), row(6)]);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x55;
    line.link.push(&damaged, ReadAt::prompt(line.now), &mut line.out);
    line.send(&[row(7)]);
    assert_eq!(lost(&line.take()), [(2, GapCause::LinkCorrupt)]);

    let _gone = line.bytes(&[row(8)]);
    let now = line.now;
    line.link.reopened(now, &mut line.out);
    line.link.push(&[0], ReadAt::prompt(now), &mut line.out);
    line.send(&[row(9)]);
    assert_eq!(lost(&line.take()), [(1, GapCause::SourceDown)]);

    line.device.reset(2);
    let us = line.us();
    let mut hello = Vec::new();
    line.device.poll(us, &mut hello).unwrap();
    line.link.push(&hello, ReadAt::prompt(line.now), &mut line.out);
    let _gone = line.bytes(&[row(0), row(1)]);
    line.send(&[row(2)]);
    assert_eq!(lost(&line.take()), [(2, GapCause::DeviceReset)]);
}

#[test]
fn a_ping_stops_the_hellos_and_a_new_boot_is_asked_who_it_is() {
    let mut line = Line::new(vec![imu()]);
    line.talk();
    line.now = line.now.plus_ms(2_000);
    line.talk();
    assert_eq!(line.device.deadline(), None, "it heard a ping");
    line.device.reset(9);
    // The new boot's first hello is lost; its pong tells of the boot, and HELLO_REQ brings the rest.
    let mut unheard = Vec::new();
    line.device.poll(line.us(), &mut unheard).unwrap();
    line.now = line.now.plus_ms(1_500);
    line.talk();
    line.talk();
    line.talk();
    line.send(&[row(0)]);
    let events = line.take();
    assert_eq!(readings(&events).len(), 1, "{events:?}");
    assert_eq!(events.iter().filter(|e| matches!(e, SourceEvent::Stream { .. })).count(), 1);
}

#[test]
fn a_stream_that_cannot_be_captured_is_set_aside_and_hides_no_other() {
    let mut bad = imu();
    bad.fields[0].unit = "furlong".into();
    bad.kind = "bad".into();
    let mut line = Line::new(vec![imu(), bad]);
    line.talk();
    let events = line.take();
    assert!(events.iter().any(|e| matches!(e, SourceEvent::SetAside { why, .. } if why.contains("furlong"))));
    assert_eq!(events.iter().filter(|e| matches!(e, SourceEvent::Stream { .. })).count(), 1);
}

proptest! {
    /// Whatever the line swallows, every number the board used is a row or is told as lost.
    #[test]
    fn no_row_goes_missing_in_silence(cuts in proptest::collection::vec((any::<bool>(), any::<u8>(), 1_u8..5), 1..60)) {
        let mut line = Line::new(vec![imu()]);
        line.talk();
        line.send(&[row(0)]);
        for (damage, at, rows) in cuts {
            let rows: Vec<_> = (0..rows).map(row).collect();
            let mut bytes = line.bytes(&rows);
            if damage {
                let at = usize::from(at) % bytes.len();
                bytes[at] ^= 1;
            }
            line.link.push(&bytes, ReadAt::prompt(line.now), &mut line.out);
        }
        // The first of two whole frames may still be joined to a damaged one before it.
        line.send(&[row(9)]);
        line.send(&[row(10)]);
        let sent = u64::from(line.device.next_seq(0));
        let events = line.take();
        let told: u64 = lost(&events).iter().map(|(rows, _)| rows).sum();
        prop_assert_eq!(readings(&events).len() as u64 + told, sent);
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let mut line = Line::new(vec![imu()]);
        line.link.push(&bytes, ReadAt::prompt(line.now), &mut line.out);
        line.talk();
        line.link.push(&bytes, ReadAt::prompt(line.now), &mut line.out);
    }
}
