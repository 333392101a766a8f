//! The real serial source against a board that lives on a thread of its own behind a pseudo terminal, on real clocks.
//!
//! The board's clock is ours times a knob, so for each sample the truth is known: it travels in the sample itself.

use super::super::framing::Decoder;
use super::super::serial::{SerialSource, TtyPort};
use super::clock::ClockUse;
use super::*;
use crate::clock::BootClock;
use crate::config::Characters;
use crate::domains::DomainNumbers;
use crate::source::arrival::{Declared, WireTime};
use headwater_core::ports::{Clock, DeviceClockEvent, DeviceExchange, Source, SourceEvent};
use headwater_core::sample::Value;
use headwater_core::time::{ClockDomain, Grade};
use headwater_shims::link::{FieldType, Value as LinkValue};
use headwater_sim::device::{SimDevice, SimField, SimStream, SimTicks, skewed_us};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_serial::{SerialPort, SerialStream};

/// What a test tells the board: its boot number, and 0 to end.
type Boots = Arc<AtomicU32>;

/// The board: a sample of its own true time each 5 ms, and an answer to whatever it is asked.
async fn board(mut far: SerialStream, ppm: i32, boots: Boots) {
    let clock = BootClock;
    let clock_ppm = u16::try_from(ppm.unsigned_abs()).unwrap().max(1);
    let stream = SimStream {
        kind: "imu".into(),
        period_us: 5_000,
        fields: vec![SimField::new("truth", "ns", FieldType::I64)],
    };
    let ticks = SimTicks { clock_ppm, ..SimTicks::default() };
    let mut boot = boots.load(Ordering::SeqCst);
    let mut device = SimDevice::new(vec![stream], boot).ticking(ticks);
    let mut started = clock.boot();
    let us = |started: BootNanos| skewed_us(u64::try_from(clock.boot().since(started) / 1_000).unwrap(), ppm);
    let (mut next, mut buffer) = (clock.boot(), [0; 256]);
    loop {
        let told = boots.load(Ordering::SeqCst);
        if told == 0 {
            return;
        }
        if told != boot {
            (boot, started) = (told, clock.boot());
            device.reset(boot);
        }
        let mut up = Vec::new();
        tokio::select! {
            read = far.read(&mut buffer) => {
                let heard = us(started);
                // Nobody has the other end open just now.
                let Ok(read) = read else { continue };
                device.answer(&buffer[..read], (heard, us(started)), &mut up).unwrap();
            }
            () = clock.sleep_until(next) => {
                next = next.plus_ms(5);
                device.poll(us(started), &mut up).unwrap();
                let truth = clock.boot();
                // The time is cut to µs after the truth was read: its stamp is no earlier.
                device.sample(0, &[vec![LinkValue::I64(truth.0)]], us(started), 0, &mut up).unwrap();
            }
        }
        if far.write_all(&up).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}

struct Ran {
    begins: Vec<ClockDomain>,
    met: Vec<DeviceExchange>,
    /// Domain, stamp, truth, arrival, ns.
    samples: Vec<(ClockDomain, i64, i64)>,
}

/// Runs source and board until each of `boots` has `enough` exchanges.
async fn run(ppm: i32, restarts: u32, enough: usize) -> Ran {
    let boots: Boots = Arc::new(AtomicU32::new(1));
    let (name, named) = std::sync::mpsc::sync_channel(1);
    let told = Arc::clone(&boots);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (far, near) = SerialStream::pair().unwrap();
            name.send(near.name().unwrap()).unwrap();
            // Held open, so that the far end never sees a hang-up.
            let _near = near;
            board(far, ppm, told).await;
        });
    });
    let path = named.recv().unwrap().into();
    let wire = WireTime { baud: 115_200, paced: false };
    let arrivals = Arrivals { wire, ..Arrivals::of_program(Declared::default(), 1_000_000) };
    let uses = ClockUse { numbers: Some(DomainNumbers::from_reserved(1)), wire };
    let link = LinkDecoding::new("imu".parse().unwrap(), arrivals, uses);
    let opener = TtyPort { path, baud: 115_200, characters: Characters::PLAIN, clock: BootClock };
    let mut source =
        SerialSource::new(BootClock, opener, "imu".parse().unwrap(), Decoder::Link(Box::new(link)));
    let mut ran = Ran { begins: Vec::new(), met: Vec::new(), samples: Vec::new() };
    let mut of_boot = 0;
    while of_boot < enough || boots.load(Ordering::SeqCst) <= restarts {
        if of_boot >= enough {
            boots.fetch_add(1, Ordering::SeqCst);
            of_boot = 0;
        }
        match source.next().await.unwrap() {
            SourceEvent::DeviceClock(DeviceClockEvent::Begins { domain, .. }) => {
                ran.begins.push(domain);
                of_boot = 0;
            }
            SourceEvent::DeviceClock(DeviceClockEvent::Met(exchange)) => {
                of_boot += usize::from(exchange.grade == Grade::Guaranteed);
                ran.met.push(exchange);
            }
            SourceEvent::Reading { reading, .. } => {
                let Value::I64(truth) = reading.values[0] else { panic!("{reading:?}") };
                ran.samples.push((reading.domain, reading.t.0, truth));
            }
            SourceEvent::Stream { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    boots.store(0, Ordering::SeqCst);
    thread.join().unwrap();
    ran
}

/// Error of the midpoint and half width of the bound, ns, of each sample, by plain cones over its own clock's exchanges
/// (the best lower and the best upper point; the collector's estimator does more). Asserts that truth is inside.
fn resolve(ran: &Ran) -> Vec<(i64, i64)> {
    let cone = |ns: i64, rho: i64| {
        i64::try_from((i128::from(ns.abs()) * i128::from(rho) + 999_999_999) / 1_000_000_000).unwrap()
    };
    // Board and gateway are one clock here, but for the knob: nothing comes to the board's own rate.
    let mut points: BTreeMap<ClockDomain, Vec<&DeviceExchange>> = BTreeMap::new();
    ran.met.iter().for_each(|met| points.entry(met.domain).or_default().push(met));
    let mut out = Vec::new();
    for (domain, t, truth) in &ran.samples {
        let Some(points) = points.get(domain) else { continue };
        let lo = points.iter().map(|p| p.t1.0 + (t - p.t2_ns) - cone(t - p.t2_ns, p.rho_ppb)).max().unwrap();
        // A stamp is cut to µs, and was read after the truth.
        let to = t + 999;
        let hi =
            points.iter().map(|p| p.t4.0 + (to - p.t3_ns) + cone(to - p.t3_ns, p.rho_ppb)).min().unwrap();
        // Truth was read before the stamp: by a preemption at worst, so only the upper side is strict.
        assert!(*truth <= hi, "{domain}: {truth} is after {hi}");
        let early = lo - truth;
        assert!(early < 50_000_000, "{domain}: {truth} is {early} ns before {lo}");
        out.push(((lo + hi) / 2 - truth, (hi - lo) / 2));
    }
    assert!(out.len() * 10 > ran.samples.len() * 9, "{} of {}", out.len(), ran.samples.len());
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn mcu_over_pty_restarts_as_another_clock_and_truth_lies_inside() {
    let ran = tokio::time::timeout(Duration::from_secs(120), run(6_000, 1, 2)).await.expect("in time");
    assert_eq!(ran.begins, [ClockDomain(1), ClockDomain(2)]);
    assert!(ran.samples.iter().all(|(domain, _, _)| *domain != ClockDomain::BOOT));
    assert!(ran.met.iter().any(|met| met.domain == ClockDomain(1) && met.grade == Grade::Guaranteed));
    resolve(&ran);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "takes two minutes and prints figures: cargo test -p headwater-agent --lib mcu_over_pty_figures -- --ignored --nocapture"]
async fn mcu_over_pty_figures() {
    for ppm in [0, 30, -30, 6_000] {
        let ran = run(ppm, 0, 5).await;
        let mut lag: Vec<i64> = ran.met.iter().map(|m| m.t4.since(m.t1) - (m.t3_ns - m.t2_ns)).collect();
        let (mut errors, mut bounds): (Vec<i64>, Vec<i64>) =
            resolve(&ran).into_iter().map(|(error, bound)| (error.abs(), bound)).unzip();
        let of = |values: &mut Vec<i64>| {
            values.sort_unstable();
            [50, 99, 100].map(|percent| values[(values.len() - 1) * percent / 100] / 1_000)
        };
        println!(
            "ppm {ppm}: {} samples, {} exchanges kept, rtt p50/p99/max {:?} us, error {:?} us, bound {:?} us",
            ran.samples.len(),
            ran.met.len(),
            of(&mut lag),
            of(&mut errors),
            of(&mut bounds),
        );
    }
}
