//! A line with all its delays, on which the truth is known: byte times, queues, USB polls, an adapter's timer.

use super::*;
use headwater_shims::link::T2Point;
use headwater_sim::device::SimTicks;
use std::collections::BTreeMap;

/// What delays bytes.
#[derive(Debug, Clone, Copy)]
struct Path {
    baud: i64,
    /// The adapter gives its bytes to the host at multiples of this, ns.
    poll_ns: i64,
    /// Most time before a write reaches the line, a frame leaves the board's queue, or the agent wakes, ns.
    queue_ns: i64,
    ppm: i32,
    ticks: SimTicks,
    paced: bool,
}

/// Randomness by seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn upto(&mut self, most: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        i64::try_from(z % (most.unsigned_abs() + 1)).unwrap()
    }
}

struct Uart {
    path: Path,
    dice: Dice,
    device: SimDevice,
    link: LinkDecoding,
    out: Decoded,
    /// Bytes on their way to the host, by arrival.
    up: BTreeMap<i64, Vec<u8>>,
    /// The wire to the host is busy until.
    busy: i64,
    /// When each sample was taken.
    truth: Vec<i64>,
}

const START: i64 = 50 * S;

impl Uart {
    fn new(path: Path, seed: u64) -> Self {
        let wire = WireTime { baud: u32::try_from(path.baud).unwrap(), paced: path.paced };
        let arrivals = Arrivals { wire, ..Arrivals::of_program(Declared::default(), MS) };
        let uses = ClockUse { numbers: Some(DomainNumbers::from_reserved(1)), wire };
        Self {
            path,
            dice: Dice(seed),
            device: SimDevice::new(vec![counting()], 7).ticking(path.ticks),
            link: LinkDecoding::new("imu".parse().unwrap(), arrivals, uses),
            out: Decoded::default(),
            up: BTreeMap::new(),
            busy: 0,
            truth: Vec::new(),
        }
    }

    /// The board's time at boot time `b`, cut to its ticks.
    fn device_us(&self, b: i64) -> u64 {
        let ns = i128::from(b - START) * i128::from(1_000_000 + self.path.ppm) / 1_000_000;
        let tick = i128::from(self.path.ticks.tick_ns);
        u64::try_from(ns.div_euclid(tick) * tick / 1_000).unwrap()
    }

    fn wire_ns(&self, bytes: usize) -> i64 {
        i64::try_from(bytes).unwrap() * 10 * S / self.path.baud
    }

    /// A frame leaves the board's queue at `from` or later.
    fn send(&mut self, from: i64, bytes: Vec<u8>) {
        let start = from.max(self.busy);
        self.busy = start + self.wire_ns(bytes.len());
        let polled =
            self.busy.div_euclid(self.path.poll_ns).saturating_add(1).saturating_mul(self.path.poll_ns);
        let read = polled + self.dice.upto(self.path.queue_ns);
        let after = self.up.last_key_value().map_or(i64::MIN, |(at, _)| *at);
        self.up.entry(read.max(after)).or_default().extend(bytes);
    }

    fn run(&mut self, seconds: i64) {
        let (mut now, end) = (START + MS, START + seconds * S);
        let mut sample_at = START + 10 * MS;
        while now < end {
            let due = self.link.deadline().0.max(now);
            let heard = self.up.first_key_value().map_or(i64::MAX, |(at, _)| *at);
            now = due.min(heard).min(sample_at).max(now);
            if now == sample_at {
                sample_at += 10 * MS;
                self.sample(now);
            } else if heard <= now {
                let (at, bytes) = self.up.pop_first().unwrap();
                self.link.push(&bytes, ReadAt::prompt(BootNanos(at)), &mut self.out);
            } else {
                self.ask(now);
            }
            now += 1;
        }
        self.link.poll(BootNanos(end + 20 * S), &mut Vec::new(), &mut self.out);
    }

    fn sample(&mut self, now: i64) {
        let n = i32::try_from(self.truth.len()).unwrap();
        self.truth.push(now);
        let (mut bytes, us) = (Vec::new(), self.device_us(now));
        self.device.sample(0, &[vec![LinkValue::I32(n)]], us, 0, &mut bytes).unwrap();
        let queued = now + self.dice.upto(self.path.queue_ns);
        self.send(queued, bytes);
    }

    fn ask(&mut self, now: i64) {
        let mut down = Vec::new();
        self.link.poll(BootNanos(now), &mut down, &mut self.out);
        if down.is_empty() {
            return;
        }
        let start = now + self.dice.upto(self.path.queue_ns);
        // The delimiter that opens a line is no byte of the frame.
        let frame = down.iter().skip_while(|byte| **byte == 0).count();
        let end = start + self.wire_ns(frame);
        let heard = match self.path.ticks.t2_point {
            T2Point::FirstByte => start + self.wire_ns(1),
            T2Point::Delimiter => end,
        };
        let answered = end + self.dice.upto(self.path.queue_ns);
        let times = (self.device_us(heard), self.device_us(answered));
        let mut up = Vec::new();
        self.device.answer(&down, times, &mut up).unwrap();
        self.send(answered, up);
    }

    /// Width of the bound of each sample, ns, half of it; asserts that it holds the truth. Plain cones: the best of all.
    fn bounds(mut self) -> Vec<i64> {
        let events: Vec<SourceEvent> = self.out.events.drain(..).collect();
        let points = met(&events);
        assert!(points.len() >= 4, "{}", points.len());
        let cone = |ns: i64, rho: i64| {
            i64::try_from((i128::from(ns.abs()) * i128::from(rho) + 999_999_999) / 1_000_000_000).unwrap()
        };
        let mut halves = Vec::new();
        for event in &events {
            let SourceEvent::Reading { reading, .. } = event else { continue };
            assert_eq!(reading.domain, ClockDomain(1));
            let headwater_core::sample::Value::I64(n) = reading.values[0] else { panic!() };
            let truth = self.truth[usize::try_from(n).unwrap()];
            // The stamp's own interval, then both cones. A µs stamp may have been cut by one.
            let (from, to) = (reading.t.0 - i64::from(reading.latency.hi_ns), reading.t.0 + 999);
            let lo = points.iter().map(|p| {
                let away = from - p.t2_ns;
                p.t1.0 + p.w_ping_ns + away - cone(away, p.rho_ppb)
            });
            let hi = points.iter().map(|p| {
                let away = to - p.t3_ns;
                p.t4.0 - p.w_pong_ns + away + cone(away, p.rho_ppb)
            });
            let (lo, hi) = (lo.max().unwrap(), hi.min().unwrap());
            assert!(lo <= truth && truth <= hi, "{n}: {lo} <= {truth} <= {hi}, {:?}", self.path);
            halves.push((hi - lo) / 2);
        }
        assert!(halves.len() > 1_000);
        halves.sort_unstable();
        halves
    }
}

fn half_widths(path: Path, seed: u64) -> Vec<i64> {
    let mut uart = Uart::new(path, seed);
    uart.run(60);
    uart.bounds()
}

fn path(poll_ns: i64, paced: bool) -> Path {
    let ticks = SimTicks { clock_ppm: 30, ..SimTicks::default() };
    Path { baud: 115_200, poll_ns, queue_ns: 200_000, ppm: 30, ticks, paced }
}

/// 60 s at 115 200 baud, 30 ppm. Without the time on the wire the bound is half of ping, pong and poll; with it, what is
/// left is queueing and drift.
#[test]
fn mcu_exchange_bound() {
    for (name, poll, paced, most_us) in [
        ("usb poll 1 ms", MS, false, 2_500),
        ("usb poll 1 ms, paced", MS, true, 300),
        ("ftdi timer 16 ms", 16 * MS, false, 3_000),
        ("ftdi timer 16 ms, paced", 16 * MS, true, 1_000),
        ("uart, paced", 10_000, true, 300),
    ] {
        let halves = half_widths(path(poll, paced), 7);
        let at = |percent: usize| halves[(halves.len() - 1) * percent / 100] / 1_000;
        println!("{name}: bound p50 {} us, p99 {} us, max {} us", at(50), at(99), at(100));
        assert!(at(50) < most_us, "{name}: {}", at(50));
    }
}

#[test]
fn wire_time_is_not_subtracted_unless_paced() {
    let mut uart = Uart::new(path(MS, false), 1);
    uart.run(20);
    let events: Vec<SourceEvent> = uart.out.events.drain(..).collect();
    assert!(met(&events).iter().all(|p| (p.w_ping_ns, p.w_pong_ns) == (0, 0)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Truth lies in the interval of every sample, whatever the rate, the ticks, the queues and the adapter.
    #[test]
    fn ping_pong_bound_holds_under_ppm(
        seed in any::<u64>(), rate in 0_usize..5, baud in 0_usize..3, poll in 0_usize..3, queue in 0_i64..2_000_000,
        tick in 0_usize..3, delimiter in any::<bool>(), paced in any::<bool>(),
    ) {
        let (ppm, clock_ppm) = [(0, 1), (30, 30), (-30, 30), (6_000, 6_000), (-6_000, 6_000)][rate];
        let ticks = SimTicks {
            clock_ppm,
            tick_ns: [1_000, 4_000, 30_518][tick],
            t2_point: if delimiter { T2Point::Delimiter } else { T2Point::FirstByte },
        };
        let path = Path {
            baud: [57_600, 115_200, 1_000_000][baud],
            poll_ns: [10_000, MS, 16 * MS][poll],
            queue_ns: queue,
            ppm,
            ticks,
            paced,
        };
        half_widths(path, seed);
    }
}
