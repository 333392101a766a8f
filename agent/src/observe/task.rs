//! The waiting half: looks every second and whenever something happens, and gives rows to the stamp stage.

use super::kernel::Kernel;
use super::observer::{Observer, ObserverSettings};
use super::report::Report;
use super::status::ClockStatus;
use super::{chronyc, devices, gpsd_client};
use crate::config::{ClockSettings, Pick};
use crate::ship::ClockExchange;
use crate::stamp::track;
use headwater_core::ports::Clock;
use headwater_core::sample::Reading;
use headwater_core::time::{BootNanos, UtcNanos};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Words of sources on their way; an adapter waits when there is no room.
pub const REPORTS_MAX: usize = 64;
/// Least time between two looks because the clock was set, ms: someone may set it without end.
const SET_MS: u64 = 100;
/// Between two looks for a `chronyc` that was not there, ms.
const NO_PROGRAM_MS: u64 = 600_000;

/// What the observer's task needs.
#[derive(Debug)]
pub struct ObserveTask<C, K> {
    /// Time.
    pub clock: C,
    /// The kernel.
    pub kernel: K,
    /// Which sources are asked.
    pub settings: ClockSettings,
    /// It is later than this.
    pub floor: UtcNanos,
    /// From ship.
    pub exchanges: mpsc::Receiver<ClockExchange>,
    /// What sources say, and the end by which our own adapters say it.
    pub reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    /// To stamp.
    pub rows: mpsc::Sender<Reading>,
    /// For the status page.
    pub status: watch::Sender<ClockStatus>,
    /// Where adapters run.
    pub tasks: TaskTracker,
    /// The end.
    pub cancel: CancellationToken,
}

/// Observes until cancelled. Nothing in here waits for a source: those have tasks of their own.
pub async fn run<C: Clock, K: Kernel>(task: ObserveTask<C, K>) {
    let ObserveTask {
        clock,
        mut kernel,
        settings,
        floor,
        mut exchanges,
        reports,
        rows,
        status,
        tasks,
        cancel,
    } = task;
    let pure = ObserverSettings {
        smear_ns: settings.smear_ns,
        pps_latency_ns: settings.pps.latency_ns,
        ptp_half_ns: settings.ptp.half_ns,
        floor,
    };
    let mut observer = Observer::new(pure, kernel.look());
    let (settling, settling_seen) = watch::channel(observer.settling_since());
    let (reports_in, mut reports) = reports;
    Adapters {
        clock: clock.clone(),
        settings,
        settling: settling_seen,
        out: reports_in,
        cancel: cancel.clone(),
    }
    .spawn(&tasks);
    let mut heed_set_at = clock.boot();
    observer.look(kernel.look());
    loop {
        status.send_if_modified(|shown| {
            let now = observer.status();
            let news = *shown != now;
            *shown = now;
            news
        });
        settling.send_if_modified(|since| {
            let news = *since != observer.settling_since();
            *since = observer.settling_since();
            news
        });
        let heed_set = clock.boot() >= heed_set_at;
        let due = if heed_set { observer.due() } else { observer.due().min(heed_set_at) };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = kernel.was_set(), if heed_set => {
                heed_set_at = clock.boot().plus_ms(SET_MS);
                observer.look(kernel.look());
            }
            Some(exchange) = exchanges.recv() => {
                observer.look(kernel.look());
                observer.exchanged(exchange);
            }
            Some(report) = reports.recv() => {
                observer.look(kernel.look());
                observer.report(report);
            }
            permit = rows.reserve(), if !observer.rows().is_empty() => {
                let Ok(permit) = permit else { return };
                if let Some(row) = observer.rows().pop_front() {
                    permit.send(row);
                }
            }
            () = clock.sleep_until(due) => observer.look(kernel.look()),
        }
    }
}

struct Adapters<C> {
    clock: C,
    settings: ClockSettings,
    settling: watch::Receiver<BootNanos>,
    out: mpsc::Sender<Report>,
    cancel: CancellationToken,
}

impl<C: Clock> Adapters<C> {
    fn spawn(self, tasks: &TaskTracker) {
        let Self { clock, settings, settling, out, cancel } = self;
        let start = |adapter: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let cancel = cancel.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = adapter => {}
                }
            });
        };
        if settings.chrony.daemon != Pick::Off {
            start(Box::pin(chrony(clock.clone(), settings.chrony.clone(), settling.clone(), out.clone())));
        }
        match settings.gpsd {
            Pick::Off => {}
            Pick::Auto => {
                let at = crate::config::GPSD_DEFAULT;
                start(Box::pin(gpsd_client::run(clock.clone(), at, false, out.clone())));
            }
            Pick::This(at) => start(Box::pin(gpsd_client::run(clock.clone(), at, true, out.clone()))),
        }
        if settings.pps.device != Pick::Off {
            start(Box::pin(devices::pulses(clock.clone(), settings.pps, out.clone())));
        }
        if settings.ptp.device != Pick::Off {
            start(Box::pin(devices::hardware(clock, settings.ptp, settling, out)));
        }
    }
}

async fn chrony<C: Clock>(
    clock: C,
    settings: crate::config::ChronySettings,
    settling: watch::Receiver<BootNanos>,
    out: mpsc::Sender<Report>,
) {
    let wanted = settings.daemon != Pick::Auto;
    loop {
        let asked = clock.boot();
        let (report, next) = match chronyc::ask(&settings, asked).await {
            Ok(report) => (Some(report), track::next_sample(*settling.borrow(), clock.boot())),
            Err(chronyc::NoAnswer::NoProgram) => {
                let why = "there is no program chronyc".to_owned();
                (wanted.then(|| chronyc::silent(&settings, why)), clock.boot().plus_ms(NO_PROGRAM_MS))
            }
            Err(chronyc::NoAnswer::Silent(why)) => {
                (Some(chronyc::silent(&settings, why)), track::next_sample(*settling.borrow(), clock.boot()))
            }
        };
        if let Some(report) = report
            && out.send(report).await.is_err()
        {
            return;
        }
        clock.sleep_until(next).await;
    }
}
