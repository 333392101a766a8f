//! Boards that restart, jump, stay silent, lie and flood; and a simulated line on which truth is known.

mod uart;

use super::super::super::arrival::{Arrivals, Declared, ReadAt, WireTime};
use super::super::super::framing::{Decoded, Notice};
use super::super::{ClockUse, LinkDecoding};
use crate::domains::DomainNumbers;
use crate::telemetry::Counter;
use headwater_core::ports::{DeviceClockEvent, DeviceExchange, SourceEvent};
use headwater_core::time::{BootNanos, ClockDomain, Grade, StampKind};
use headwater_shims::link::{
    FieldType, Flags, Header, LinkDecoder, LinkType, Pong, RAW_BYTES_MAX, Value as LinkValue, encode,
};
use headwater_sim::device::{SimDevice, SimField, SimStream, skewed_us};
use proptest::prelude::*;

const MS: i64 = 1_000_000;
const S: i64 = 1_000_000_000;

pub(super) fn counting() -> SimStream {
    SimStream { kind: "imu".into(), period_us: 10_000, fields: vec![SimField::new("n", "1", FieldType::I32)] }
}

/// A board on a wire without delay; device time is its own.
struct Bench {
    device: SimDevice,
    link: LinkDecoding,
    now: BootNanos,
    /// Boot time of the board's start.
    since: BootNanos,
    ppm: i32,
    answers: bool,
    out: Decoded,
}

impl Bench {
    fn new() -> Self {
        Self::on(WireTime::NONE)
    }

    fn on(wire: WireTime) -> Self {
        let arrivals = Arrivals { wire, ..Arrivals::of_program(Declared::default(), MS) };
        let uses = ClockUse { numbers: Some(DomainNumbers::from_reserved(1)), wire };
        Self {
            device: SimDevice::new(vec![counting()], 1),
            link: LinkDecoding::new("imu".parse().unwrap(), arrivals, uses),
            now: BootNanos(100 * S),
            since: BootNanos(90 * S),
            ppm: 0,
            answers: true,
            out: Decoded::default(),
        }
    }

    fn us(&self) -> u64 {
        skewed_us(u64::try_from(self.now.since(self.since) / 1_000).unwrap(), self.ppm)
    }

    /// Time goes on in steps of 10 ms, with a sample in each.
    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.step(true);
        }
    }

    fn step(&mut self, sample: bool) {
        self.now = self.now.plus_ms(10);
        let (mut up, mut down) = (Vec::new(), Vec::new());
        self.device.poll(self.us(), &mut up).unwrap();
        if sample {
            self.device.sample(0, &[vec![LinkValue::I32(1)]], self.us(), 0, &mut up).unwrap();
        }
        self.hear(&up);
        self.link.poll(self.now, &mut down, &mut self.out);
        let mut answer = Vec::new();
        if self.answers && !down.is_empty() {
            let asked = self.us();
            self.now = self.now.plus_ns(MS / 2);
            self.device.answer(&down, (asked, self.us()), &mut answer).unwrap();
        }
        self.hear(&answer);
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.link.push(bytes, ReadAt::prompt(self.now), &mut self.out);
    }

    fn restart(&mut self, nonce: u32) {
        self.device.reset(nonce);
        self.since = self.now;
    }

    /// A PONG nobody checked.
    fn forge(&mut self, seq: u16, t1_us: u64, times: (u64, u64)) {
        let pong = Pong { t1_us, t2_us: times.0, boot_nonce: 1, schema_crc: 0, dropped: 0 };
        let (mut payload, mut wire) = ([0; 64], [0; 128]);
        let len = pong.encode(&mut payload).unwrap();
        let header = Header { link_type: LinkType::Pong, flags: Flags::NONE, seq, t_us: times.1 };
        let len = encode(&mut wire, header, &payload[..len]).unwrap();
        self.hear(&wire[..len]);
    }

    fn take(&mut self) -> Vec<SourceEvent> {
        self.out.events.drain(..).collect()
    }

    fn count(&self, of: Counter) -> u64 {
        let counts = self.out.notices.iter().filter_map(|notice| match notice {
            Notice::Count(counter, n) if *counter == of => Some(n),
            _ => None,
        });
        counts.sum()
    }
}

fn begins(events: &[SourceEvent]) -> Vec<(u32, String)> {
    let begins = events.iter().filter_map(|event| match event {
        SourceEvent::DeviceClock(DeviceClockEvent::Begins { domain, detail, .. }) => {
            let (_, why) = detail.split_once(": ").unwrap();
            Some((domain.0, why.to_owned()))
        }
        _ => None,
    });
    begins.collect()
}

fn met(events: &[SourceEvent]) -> Vec<DeviceExchange> {
    let met = events.iter().filter_map(|event| match event {
        SourceEvent::DeviceClock(DeviceClockEvent::Met(exchange)) => Some(exchange.clone()),
        _ => None,
    });
    met.collect()
}

fn domains(events: &[SourceEvent]) -> Vec<u32> {
    let mut domains: Vec<u32> = events
        .iter()
        .filter_map(|event| match event {
            SourceEvent::Reading { reading, .. } => Some(reading.domain.0),
            _ => None,
        })
        .collect();
    domains.dedup();
    domains
}

#[test]
fn samples_are_stamped_by_the_board_and_its_clock_is_met_often_at_first_then_once_in_ten_seconds() {
    let mut bench = Bench::new();
    bench.run(40_000);
    let events = bench.take();
    assert_eq!(begins(&events), [(1, "first heard".to_owned())]);
    assert!(matches!(events[0], SourceEvent::DeviceClock(_)), "before all that it stamps");
    let readings: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            SourceEvent::Reading { reading, .. } => Some(reading),
            _ => None,
        })
        .collect();
    let latest = readings.last().unwrap();
    assert_eq!((latest.kind, latest.domain), (StampKind::Instant, ClockDomain(1)));
    assert!(bench.now.since(bench.since) - latest.t.0 < 20 * MS, "device time");
    let met = met(&events);
    assert!((5..=7).contains(&met.len()), "{}", met.len());
    assert!(met[0].t4.since(BootNanos(100 * S)) < 2 * S, "a new clock is bounded soon");
    for exchange in &met {
        assert_eq!(
            (exchange.grade, exchange.rho_ppb, exchange.domain),
            (Grade::Guaranteed, 50_003, ClockDomain(1))
        );
        assert_eq!((exchange.w_ping_ns, exchange.w_pong_ns), (0, 0));
        // The board started at 90 s, and its times are cut to µs.
        assert!(exchange.t2_ns + 90 * S >= exchange.t1.0 && exchange.t3_ns + 90 * S <= exchange.t4.0);
    }
    assert_eq!((bench.count(Counter::PingsUnanswered), bench.count(Counter::PongsRefused)), (0, 0));
    let exchanges = bench.count(Counter::DeviceExchanges);
    assert!((66..=78).contains(&exchanges), "3 s at 10 Hz, then 1 Hz: {exchanges}");
}

#[test]
fn each_way_to_restart_is_another_clock_once() {
    let mut bench = Bench::new();
    bench.run(3_000);
    // It says so itself.
    bench.restart(2);
    bench.run(3_000);
    assert_eq!(begins(&bench.take()).last().unwrap(), &(2, "the board started again".to_owned()));
    // Its HELLO is lost: the flag on its first sample tells, and its number is taken when it comes.
    bench.restart(3);
    let mut unheard = Vec::new();
    bench.device.poll(bench.us(), &mut unheard).unwrap();
    bench.run(3_000);
    assert_eq!(begins(&bench.take()), [(3, "the board started again".to_owned())]);
    // Only its time tells.
    bench.since = bench.now.plus_ns(-100 * MS);
    bench.run(3_000);
    assert_eq!(begins(&bench.take()), [(4, "its time went back".to_owned())]);
    bench.link.reopened(bench.now, &mut bench.out);
    bench.hear(&[0]);
    bench.run(3_000);
    let events = bench.take();
    assert_eq!(begins(&events), [(5, "the port was opened again".to_owned())]);
    assert_eq!(domains(&events), [5]);
    // What is kept names the clock that was asked.
    assert!(met(&events).iter().all(|exchange| [4, 5].contains(&exchange.domain.0)));
}

#[test]
fn a_clock_that_stands_still_or_jumps_is_another_clock() {
    let mut bench = Bench::new();
    bench.run(5_000);
    bench.take();
    // A debugger held it for two seconds: its clock stood still, its numbers did not jump.
    bench.since = bench.since.plus_ns(2 * S);
    // That is back by less than a restart, and no sample in between tells.
    bench.now = bench.now.plus_ms(2_000);
    bench.run(3_000);
    assert_eq!(begins(&bench.take()), [(2, "its clock jumped or stood still".to_owned())]);
    bench.since = bench.since.plus_ns(-5 * S);
    bench.run(1_000);
    assert_eq!(begins(&bench.take()), [(3, "its clock jumped ahead".to_owned())]);
}

#[test]
fn answers_nobody_asked_for_are_refused() {
    let mut bench = Bench::new();
    bench.run(5_000);
    bench.take();
    bench.answers = false;
    // A question is under way: seq and t1 are in it.
    let mut down = Vec::new();
    while down.is_empty() {
        bench.now = bench.now.plus_ms(10);
        bench.link.poll(bench.now, &mut down, &mut bench.out);
    }
    let mut decoder = LinkDecoder::<RAW_BYTES_MAX>::new();
    decoder.push(0);
    let asked = down.iter().find_map(|byte| decoder.push(*byte).map(|frame| frame.unwrap().header)).unwrap();
    assert_eq!(asked.link_type, LinkType::Ping);
    let us = bench.us();
    let before = bench.count(Counter::DeviceExchanges);
    bench.forge(asked.seq.wrapping_add(1), asked.t_us, (us, us));
    bench.forge(asked.seq, asked.t_us + 1, (us, us));
    assert_eq!(bench.count(Counter::PongsRefused), 2);
    assert_eq!(bench.count(Counter::DeviceExchanges), before);
    // The right one is used once.
    bench.now = bench.now.plus_ms(1);
    bench.forge(asked.seq, asked.t_us, (us, us));
    assert_eq!(bench.count(Counter::DeviceExchanges), before + 1);
    bench.forge(asked.seq, asked.t_us, (us, us));
    assert_eq!((bench.count(Counter::PongsRefused), bench.count(Counter::DeviceExchanges)), (3, before + 1));
}

#[test]
fn answers_whose_times_cannot_be_are_refused() {
    for (off_us, held_us) in [(0_i64, -1_i64), (0, 900_000)] {
        let mut bench = Bench::new();
        bench.run(5_000);
        bench.answers = false;
        let mut down = Vec::new();
        while down.is_empty() {
            bench.now = bench.now.plus_ms(10);
            bench.link.poll(bench.now, &mut down, &mut bench.out);
        }
        let mut decoder = LinkDecoder::<RAW_BYTES_MAX>::new();
        decoder.push(0);
        let asked =
            down.iter().find_map(|byte| decoder.push(*byte).map(|frame| frame.unwrap().header)).unwrap();
        let t2 = bench.us().checked_add_signed(off_us).unwrap();
        bench.now = bench.now.plus_ms(2);
        bench.forge(asked.seq, asked.t_us, (t2, t2.checked_add_signed(held_us).unwrap()));
        assert_eq!(bench.count(Counter::PongsRefused), 1, "{off_us} {held_us}");
    }
}

#[test]
fn a_board_that_only_talks_is_bounded_by_its_arrivals_and_its_samples_never_wait() {
    let mut bench = Bench::new();
    bench.answers = false;
    bench.run(30_000);
    let events = bench.take();
    assert_eq!(domains(&events), [1]);
    let met = met(&events);
    assert!((3..=7).contains(&met.len()), "{}", met.len());
    for exchange in met {
        assert_eq!(exchange.grade, Grade::Estimated);
        assert!(exchange.detail.ends_with("by arrival"), "{}", exchange.detail);
        assert!(exchange.t3_ns + 90 * S <= exchange.t4.0 && exchange.t2_ns + 90 * S >= exchange.t1.0);
    }
    assert!(bench.count(Counter::PingsUnanswered) > 20);
}

#[test]
fn a_line_that_paces_nothing_is_found_out() {
    let mut bench = Bench::on(WireTime { baud: 115_200, paced: true });
    bench.run(10_000);
    // 16 and 40 bytes take 4.9 ms, and the answer was here in half a ms.
    let troubles =
        bench.out.notices.iter().filter(|notice| matches!(notice, Notice::Trouble(Some(_)))).count();
    assert_eq!((troubles, bench.count(Counter::PacedRefuted)), (1, 1));
    let met = met(&bench.take());
    assert!(!met.is_empty() && met.iter().all(|exchange| (exchange.w_ping_ns, exchange.w_pong_ns) == (0, 0)));
}

#[test]
fn a_board_in_a_boot_loop_uses_up_no_names_and_floods_nothing() {
    let mut bench = Bench::new();
    for nonce in 2..2_000 {
        bench.restart(nonce);
        bench.run(30);
    }
    let seconds = u64::try_from(bench.now.since(BootNanos(100 * S)) / S).unwrap();
    let events = bench.take();
    let clocks = begins(&events).len() as u64;
    assert!(clocks <= 8 + seconds / 5, "{clocks} clocks in {seconds} s");
    assert!(bench.count(Counter::DeviceClocksRefused) > 1_000);
    // Samples went on, by their arrival.
    let by_arrival = events.iter().filter(
        |event| matches!(event, SourceEvent::Reading { reading, .. } if reading.domain == ClockDomain::BOOT),
    );
    assert!(by_arrival.count() > 3_000);
    // Once it stays up it has a clock again.
    bench.run(10_000);
    assert_ne!(domains(&bench.take()).last(), Some(&0));
}

#[test]
fn device_times_that_are_none_cost_their_stamp_only() {
    let mut bench = Bench::new();
    bench.run(2_000);
    bench.take();
    let mut up = Vec::new();
    bench.device.sample(0, &[vec![LinkValue::I32(1)]], u64::MAX, 0, &mut up).unwrap();
    bench.hear(&up);
    assert_eq!((domains(&bench.take()), bench.count(Counter::DeviceTimesRefused)), (vec![0], 1));
    bench.run(1_000);
    let events = bench.take();
    assert_eq!((domains(&events), begins(&events)), (vec![1], vec![]));
}

proptest! {
    /// Whatever PONGs are made up, none becomes an exchange, and the clock that runs stays bounded by true ones.
    #[test]
    fn made_up_answers_never_bound_anything(
        forged in proptest::collection::vec((any::<u16>(), any::<u64>(), any::<u64>(), any::<u64>()), 1..40)
    ) {
        let mut bench = Bench::new();
        bench.run(3_000);
        for (seq, t1, t2, t3) in forged {
            bench.forge(seq, t1, (t2, t3));
            bench.run(50);
        }
        bench.run(12_000);
        let events = bench.take();
        // A forged time may cost the clock its name, never its truth.
        prop_assert!(begins(&events).len() <= 41);
        for exchange in met(&events) {
            prop_assert!(exchange.t2_ns + 90 * S >= exchange.t1.0 && exchange.t3_ns + 90 * S <= exchange.t4.0);
        }
    }
}
