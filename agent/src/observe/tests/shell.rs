//! The waiting half, with simulated clocks and a kernel that tells when it is set.

use super::*;
use crate::config::{ChronySettings, ClockSettings, Pick, PpsSettings, PtpScale, PtpSettings};
use crate::observe::{ClockStatus, Kernel, ObserveTask, REPORTS_MAX, Report, run};
use headwater_core::ports::Clock;
use headwater_core::time::Grade;
use headwater_sim::clock::SimClock;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[derive(Debug, Clone)]
struct SimKernel {
    clock: SimClock,
    sync: KernelSync,
    set: Arc<Notify>,
}

impl Kernel for SimKernel {
    fn look(&self) -> Look {
        Look { reading: self.clock.read(), asleep_ns: 0, kernel: self.sync, timesyncd: false }
    }

    async fn was_set(&mut self) {
        self.set.notified().await;
    }
}

/// Nothing outside this process is asked.
fn alone() -> ClockSettings {
    ClockSettings {
        chrony: ChronySettings { daemon: Pick::Off, conf: None },
        timesyncd: false,
        gpsd: Pick::Off,
        pps: PpsSettings { device: Pick::Off, clear_edge: false, latency_ns: None },
        gps_serial: true,
        ptp: PtpSettings { device: Pick::Off, scale: PtpScale::Auto, half_ns: 100_000_000 },
        smear_ns: 0,
        rho_ppb: None,
    }
}

struct Shell {
    clock: SimClock,
    set: Arc<Notify>,
    reports: mpsc::Sender<Report>,
    exchanges: mpsc::Sender<crate::ship::ClockExchange>,
    rows: mpsc::Receiver<Reading>,
    status: watch::Receiver<ClockStatus>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn start(rows_max: usize) -> Shell {
    let (clock, set) = (SimClock::start(), Arc::new(Notify::new()));
    let kernel = SimKernel { clock: clock.clone(), sync: KernelSync::UNKNOWN, set: Arc::clone(&set) };
    let (reports_in, reports) = mpsc::channel(REPORTS_MAX);
    let (exchanges, exchanges_out) = mpsc::channel(8);
    let (rows_in, rows) = mpsc::channel(rows_max);
    let (status_in, status) = watch::channel(ClockStatus::default());
    let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
    let task = tasks.clone().spawn(run(ObserveTask {
        clock: clock.clone(),
        kernel,
        settings: alone(),
        floor: UtcNanos(i64::MIN),
        exchanges: exchanges_out,
        reports: (reports_in.clone(), reports),
        rows: rows_in,
        status: status_in,
        tasks,
        cancel: cancel.clone(),
    }));
    Shell { clock, set, reports: reports_in, exchanges, rows, status, cancel, task }
}

async fn next(shell: &mut Shell) -> Row {
    Row(shell.rows.recv().await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_step_is_told_at_once_and_a_storm_of_them_is_paced() {
    let mut shell = start(64);
    assert_eq!(next(&mut shell).await.told(), "sample kernel 0");
    shell.clock.step_utc(172_800 * NS_PER_S);
    shell.set.notify_one();
    let before = shell.clock.boot();
    let row = next(&mut shell).await;
    assert_eq!((row.told().as_str(), row.int("step")), ("step none 0", Some(172_800 * NS_PER_S)));
    assert!(shell.clock.boot().since(before) < 1_000_000, "the kernel told, nobody waited for the next look");
    // A clock that is set a thousand times a second for a minute.
    for n in 0..60_000_i64 {
        shell.clock.step_utc(if n % 2 == 0 { NS_PER_S } else { -NS_PER_S });
        shell.set.notify_one();
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
    }
    let mut told = 0;
    while let Ok(row) = shell.rows.try_recv() {
        told += i32::from(Row(row).name("row_kind") == "event");
    }
    assert!((1..=24).contains(&told), "{told}");
    let steps = shell.status.borrow().steps;
    assert!(steps <= 1 + 60 * 11, "looks are paced: {steps}");
    shell.cancel.cancel();
    shell.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stamp_stage_that_hangs_costs_the_oldest_rows_and_no_memory() {
    let mut shell = start(1);
    // Each report is a row of its own: the first of each receiver, then windows of 16 s.
    let day = shell.clock.boot().plus_ns(86_400 * NS_PER_S);
    shell.clock.sleep_until(day).await;
    let mut held = Vec::new();
    while let Ok(Some(row)) =
        tokio::time::timeout(std::time::Duration::from_millis(10), shell.rows.recv()).await
    {
        held.push(Row(row));
        if held.len() > 1_030 {
            break;
        }
    }
    assert!((1_024..=1_030).contains(&held.len()), "{}", held.len());
    let newest = held.iter().filter_map(|row| row.int("b1")).max().unwrap();
    assert!(day.0 - newest < 70 * NS_PER_S, "the newest are kept");
    shell.cancel.cancel();
    shell.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn exchanges_and_reports_become_rows_and_status() {
    let mut shell = start(64);
    assert_eq!(next(&mut shell).await.told(), "sample kernel 0");
    let now = shell.clock.boot();
    let utc = shell.clock.utc();
    let exchange = crate::ship::ClockExchange {
        boot_ordinal: headwater_core::id::BootOrdinal(1),
        t1: now,
        t2: utc,
        t3: utc,
        t4: now,
        e_c_ns: 1_000_000,
        grade: Grade::Guaranteed,
        source_id: 7,
    };
    shell.exchanges.send(exchange).await.unwrap();
    assert_eq!(next(&mut shell).await.told(), "exchange collector_exchange 2");
    shell.status.wait_for(|status| status.grade == Grade::Guaranteed).await.unwrap();
    let why = "garbled".to_owned();
    shell.reports.send(Report::Refused { source: TimeSource::GpsPps, why }).await.unwrap();
    shell.status.wait_for(|status| status.last_refused.as_deref() == Some("gps_pps: garbled")).await.unwrap();
    // Nobody is heard for ten minutes: nothing is claimed any more.
    let later = shell.clock.boot().plus_ms(600_000);
    shell.clock.sleep_until(later).await;
    shell.status.wait_for(|status| status.grade == Grade::OrderingOnly).await.unwrap();
    drop(shell.rows);
    shell.task.await.unwrap();
}

#[tokio::test]
async fn check_names_what_there_is_and_what_is_named_in_vain() {
    let told = |found: &[super::super::Found], source: &str| {
        found.iter().find(|found| found.told.starts_with(source)).cloned()
    };
    let found = super::super::find(&alone(), &[]).await;
    assert!(found.iter().all(|found| !found.is_problem), "{found:?}");
    assert!(told(&found, "kernel").is_some() && told(&found, "collector_exchange").is_some());
    assert!(told(&found, "chrony").is_some_and(|chrony| chrony.told.contains("switched off")));
    let settings = ClockSettings {
        gpsd: Pick::This("127.0.0.1:1".parse().unwrap()),
        pps: PpsSettings { device: Pick::This("/dev/pps-none".into()), ..alone().pps },
        ptp: PtpSettings { device: Pick::This("/dev/ptp-none".into()), ..alone().ptp },
        ..alone()
    };
    let found = super::super::find(&settings, &[]).await;
    let problems: Vec<&str> = found.iter().filter(|f| f.is_problem).map(|f| f.told.as_str()).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].contains("start it, or correct clock.gpsd"), "{problems:?}");
    assert!(problems[1..].iter().all(|problem| problem.contains("load its driver")), "{problems:?}");
}
