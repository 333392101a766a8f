//! The run itself: start, play, (kill), drain, stop, judge, tell.

use crate::Args;
use crate::alignment::Alignment;
use crate::bad::{BAD, BadGateway, Held, is_judged};
use crate::clockless::{Clockless, Testimony};
use crate::console::Console;
use crate::drive::Drive;
use crate::reproduced::Reproduced;
use crate::spool_disk::SpoolDisk;
use crate::{faults, report, sheet, verbs};
use anyhow::{Context, Result, bail};
use headwater_agent::stamp::SLAB_MS_MAX;
use headwater_lake::{CommitId, Lake};
use headwater_sim::loop_disk;
use headwater_tests::clockless::CLOCKLESS;
use headwater_tests::players::{Emitted, Mishaps, Players};
use headwater_tests::recordings::Recordings;
use headwater_tests::ticks::{now, wait_until};
use headwater_tests::truth::{self, Figures, NextSeqs};
use headwater_tests::world::{DEVICE, Ports, SYNC_INTERVAL_MS, World};
use headwater_tests::{
    fleet::{Broker, Fleet},
    status::AgentStatus,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Commits are made this often in the demo (10 s by default elsewhere).
const COMMIT_INTERVAL_MS: u64 = 2_000;
/// Longest wait for the last rows to be committed after playing: an agent's resends wait up to five minutes.
const DRAIN_LIMIT: Duration = Duration::from_secs(400);
/// How long the other sensors play after the last picture: a row is final once every column surely knows what follows it,
/// here the weather within 2 s, and 2 s more for what comes out of order.
const PLAY_ON: Duration = Duration::from_secs(6);
/// Longest wait until the last pictures are aligned and judged.
const ALIGN_LIMIT: Duration = Duration::from_secs(40);
/// Under a recipe that may leave pictures out, nobody knows how many rows there will be.
const ALIGN_LIMIT_OF_OTHERS: Duration = Duration::from_secs(20);
/// Seconds between kills under `--chaos`: 20 s of playing see each process killed and the power cut once.
const KILL_EVERY_S: u64 = 4;
/// What a power cut may take: a slab that is still open, and what waits for its sync.
const LOSS_WINDOW_MS: u64 = SLAB_MS_MAX + SYNC_INTERVAL_MS;

/// Runs the demo; `true` if nothing was lost, doubled or wrong, aligned rows hold the truth, the bad gateway was held back,
/// and the last commits came out the same once more.
pub(crate) fn run(args: &Args) -> Result<bool> {
    loop_disk::remove_orphans();
    let interrupted = Arc::new(AtomicU32::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    watch_interrupts(&runtime, &interrupted)?;
    let mut console = Console::new(args.play);

    let fault = faults::named(&args.fault)
        .with_context(|| format!("no fault {:?}; there are:\n{}", args.fault, faults::list()))?;
    let drive = Drive::read(args)?;
    let dir = prepare_dir(args)?;
    console.say("Headwater demo: a gateway's sensors, positions and pictures become one readable commit.");
    console.say(&format!("  folder          {}", dir.display()));
    let mut world = World::create(&dir, COMMIT_INTERVAL_MS).context("failed to lay out the run")?;
    world.lepton = true;
    world.recipes = vec![drive.recipe.clone(), world.path("recipes/wake.toml")];
    world.rules = vec![drive.rules.clone()];
    verbs::check_collector(&world.write_collector()?).context("the collector refuses its configuration")?;
    // Before the fleet, so that it is unmounted after the agent has ended, whatever ends this run.
    let disk = SpoolDisk::lay(args, &world, &console).context("failed to make a disk for the spool")?;
    console.say(&format!(
        "  certificates    {} (fleet CA, TLS and signing, made just now)",
        world.path("pki").display()
    ));
    let data = data_dir();
    let mishaps = Mishaps { broken_picture_at: Some(12), noise_at: Some(1_000) };
    let mut players =
        Players::start(&data, &world.path("camera"), mishaps).context("failed to start the players")?;
    console.say(&format!("  microcontroller {} (link frames, 200 Hz)", players.imu_port.display()));
    console.say(&format!("  GPS receiver    {} (NMEA, 5 Hz)", players.gps_port.display()));
    console.say("  camera          camera/ (JPEG files, 5 a second), slow sensor by exec (2 Hz)");
    console.say("  mishaps         one broken picture, one burst of noise on the serial line");

    console.say(&format!("  recipe, rules   {}, {}", drive.recipe.display(), drive.rules.display()));

    let program = std::env::current_exe()?;
    let ports = Ports { imu: players.imu_port.clone(), gps: players.gps_port.clone() };
    let mut fleet = Fleet::start(&world, &ports, &program, &data, Broker::Embedded)?;
    let mut clockless = Clockless::start(&world, &program, &console)?;
    let mut bad = BadGateway::start(&world, &program, Recordings::read(&data)?, fault, &console)?;
    console.say(&format!(
        "  broker          mqtts://{} (own process), collector http://{}",
        world.broker, world.http
    ));

    let start = now();
    let mut next_kill = KILL_EVERY_S;
    let with_power = ["agent", "power", "broker", "collector"];
    let victims = if disk.is_some() { &with_power[..] } else { &["agent", "broker", "collector"] };
    let mut victims = victims.iter().copied().cycle();
    while start.elapsed() < args.play && interrupted.load(Ordering::Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(250));
        fleet.check()?;
        clockless.as_mut().map_or(Ok(()), Clockless::check)?;
        bad.check()?;
        let seconds = start.elapsed().as_secs();
        if args.chaos && seconds >= next_kill && seconds + 3 < args.play.as_secs() {
            let victim = victims.next().unwrap_or("agent");
            match &disk {
                Some(disk) if victim == "power" => {
                    console.say(&format!("  {seconds:>3} s  power cut: agent and the disk of its spool"));
                    fleet.cut_power(&disk.disk)?;
                }
                _ => {
                    console.say(&format!("  {seconds:>3} s  kill -9 {victim}"));
                    fleet.kill_and_restart(victim)?;
                }
            }
            next_kill += KILL_EVERY_S;
        }
        let (imu, gps, pictures) = players.counts();
        let status = AgentStatus::read(&world.path("status.json"));
        let held = status
            .as_ref()
            .map_or_else(|| "starting".to_owned(), |s| format!("{} rows on the gateway", s.held_rows()));
        console.progress(seconds, format!("{imu} imu, {gps} fixes, {pictures} pictures played; {held}"));
    }
    if args.keep && interrupted.load(Ordering::Relaxed) == 0 {
        stay(&console, &world, &mut fleet, &interrupted)?;
    }

    players.stop_camera();
    bad.stop_camera();
    console
        .progress(args.play.as_secs(), "the cameras rest, the other sensors go on for a little".to_owned());
    let rest = now();
    while rest.elapsed() < PLAY_ON && interrupted.load(Ordering::Relaxed) <= 1 {
        std::thread::sleep(Duration::from_millis(250));
        fleet.check()?;
        clockless.as_mut().map_or(Ok(()), Clockless::check)?;
        bad.check()?;
    }
    let emitted = players.stop();
    let emitted_badly = bad.silence()?;
    console.done();
    console.say("  played; waiting until the last row is committed");
    world.silence_slow_sensor()?;
    let drained = fleet.wait_drained(DRAIN_LIMIT, || interrupted.load(Ordering::Relaxed) > 1)?;
    if !drained && interrupted.load(Ordering::Relaxed) > 1 {
        bail!("ended by request before the last row was committed; everything was stopped");
    }
    let clockless_drained = clockless.as_mut().map_or(Ok(true), Clockless::finish)?;
    let drained = drained && clockless_drained && bad.wait_drained()?;
    wait_for_alignment(&runtime, &world, &drive);
    let bytes_on_wire = fleet.bytes_on_wire();
    let spool_of_bad = bad.stop()?;
    let rss_agent_max = fleet.stop()?;
    if let Some(disk) = disk {
        disk.leaves_its_files(&world).context("failed to keep the spool's files")?;
    }
    let status = AgentStatus::read(&world.path("status.json")).context("the agent left no status file")?;
    let location = world.path("lake").display().to_string();
    let spool = status.next_seqs();
    let mut figures = runtime
        .block_on(truth::judge(&location, DEVICE, &emitted, &world.path("env.truth"), &spool))
        .context("failed to read the lake back")?;
    let set_aside = truth::set_aside(&world.path("spool"));
    figures.quarantined += set_aside.len() as u64;
    let page = runtime
        .block_on(report::write(&world, &figures, &set_aside, &drive.shape))
        .context("failed to write report.html")?;

    truth::write_truth(&world.path("truth.jsonl"), &emitted, &world.path("env.truth"), &spool)?;
    let testimony = match &clockless {
        Some(_) => {
            Some(runtime.block_on(Testimony::read(&location)).context("failed to read the lake back")?)
        }
        None => None,
    };
    let found = runtime
        .block_on(Found::read(&world, &drive, (&emitted, &emitted_badly), &bad, &spool_of_bad))
        .context("failed to judge the aligned rows")?;
    if clockless.is_some() {
        let picture = world.path("clock.svg").display().to_string();
        leave(&world, "clock.txt", &["clock", CLOCKLESS, "--svg", &picture])?;
    }
    leave(&world, "views.sql", &["views", "--at", "main"])?;
    leave(&world, "tables.json", &["tables", "--at", "main", "--json"])?;
    let tell = Tell {
        args,
        world: &world,
        figures: &figures,
        testimony: testimony.as_ref(),
        drive: &drive,
        found: &found,
        page: &page,
        drained,
        bytes_on_wire,
        rss_agent_max,
    };
    runtime.block_on(tell.all())?;
    let right = testimony.as_ref().is_none_or(Testimony::is_right);
    let whole = figures.lost == 0 && figures.duplicate == 0 && figures.wrong == 0 && figures.committed > 0;
    let good = drained && whole && right && found.is_right(drive.is_shipped);
    found.complain(drive.is_shipped);
    if !right {
        eprintln!(
            "a row of the gateway that woke in 1970 does not hold the true time, or none of 1970 came in time"
        );
    }
    if !drained {
        eprintln!(
            "not everything was committed within {} s; see {}",
            DRAIN_LIMIT.as_secs(),
            world.path("logs").display()
        );
    }
    Ok(good)
}

/// The spine's last frames are aligned, and judged, once their neighbours have passed them or fallen silent.
fn wait_for_alignment(runtime: &tokio::runtime::Runtime, world: &World, drive: &Drive) {
    let location = world.path("lake").display().to_string();
    let limit = if drive.is_shipped { ALIGN_LIMIT } else { ALIGN_LIMIT_OF_OTHERS };
    let mut seen = None;
    let aligned =
        wait_until(limit, || runtime.block_on(is_settled(&location, drive, &mut seen)).unwrap_or(false));
    if !aligned && drive.is_shipped {
        eprintln!("some camera frames are not aligned yet; the figures show what is");
    }
}

/// True if every picture has its row, or its verdict. Looks at each commit once.
async fn is_settled(location: &str, drive: &Drive, seen: &mut Option<CommitId>) -> Result<bool> {
    let lake = Lake::open(location).await?;
    let head = lake.resolve("main").await?;
    if seen.as_ref() == Some(&head) {
        return Ok(false);
    }
    let settled =
        truth::is_aligned(&lake, &head, &drive.shape.table, DEVICE).await? && is_judged(&lake, &head).await?;
    *seen = Some(head);
    Ok(settled)
}

/// What the lake says of aligned rows.
struct Found {
    /// Of the first gateway; none if a row is no picture.
    alignment: Option<Alignment>,
    held: Held,
    reproduced: Vec<Reproduced>,
}

impl Found {
    async fn read(
        world: &World,
        drive: &Drive,
        (emitted, emitted_badly): (&Emitted, &Emitted),
        bad: &BadGateway,
        spool_of_bad: &NextSeqs,
    ) -> Result<Self> {
        let location = world.path("lake").display().to_string();
        let alignment = match drive.shape.is_of_pictures {
            true => {
                let asked = (&drive.shape, DEVICE);
                Some(Alignment::read(&location, asked, emitted, &world.path("env.truth")).await?)
            }
            false => None,
        };
        let env = world.path(BAD.env_truth);
        let table = &drive.shape.table;
        let held = Held::read(&location, table, bad.fault, emitted_badly, (&env, spool_of_bad)).await?;
        Ok(Self { alignment, held, reproduced: Reproduced::read(&world.path("lake")).await? })
    }

    /// Whether an aligned row holds the truth, and who is held back, depends on the recipe and the rules: those of others are
    /// shown, and judged by what every recipe must keep.
    fn is_right(&self, is_shipped: bool) -> bool {
        let is_known = self.alignment.as_ref().is_some_and(Alignment::is_right) && self.held.is_right();
        self.is_reproduced() && self.held.is_captured() && (is_known || !is_shipped)
    }

    fn is_reproduced(&self) -> bool {
        !self.reproduced.is_empty() && self.reproduced.iter().all(Reproduced::is_right)
    }

    fn complain(&self, is_shipped: bool) {
        if is_shipped && !self.alignment.as_ref().is_some_and(Alignment::is_right) {
            eprintln!(
                "an aligned row does not hold the truth within its uncertainty, or none could be judged"
            );
        }
        if is_shipped && !self.held.is_right() {
            eprintln!(
                "{} was not held back as it should be: published rows, another's held, or no verdict of its rule",
                BAD.device
            );
        }
        if !self.held.is_captured() {
            eprintln!("captures of {} are not in the lake as they were", BAD.device);
        }
        if !self.is_reproduced() {
            eprintln!("a commit did not come out the same when it was made anew, or there was none");
        }
    }
}

/// Counts requests to end: the first ends the playing, the second the wait for the last rows.
fn watch_interrupts(runtime: &tokio::runtime::Runtime, interrupted: &Arc<AtomicU32>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let _context = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut requests = signal(kind).context("failed to listen for signals")?;
        let count = Arc::clone(interrupted);
        runtime.spawn(async move {
            while requests.recv().await.is_some() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    Ok(())
}

fn prepare_dir(args: &Args) -> Result<PathBuf> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => target_dir().join("demo"),
    };
    let marker = dir.join("agent.toml");
    if dir.exists() {
        let ours = marker.exists() || std::fs::read_dir(&dir)?.next().is_none();
        if !ours {
            bail!("{} holds something else; give an empty folder with --dir", dir.display());
        }
        std::fs::remove_dir_all(&dir).with_context(|| format!("failed to clear {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir)?;
    Ok(dir.canonicalize()?)
}

/// The build's target folder: where this binary lies, two levels up.
fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    exe.parent().and_then(Path::parent).map_or_else(|| PathBuf::from("target"), Path::to_path_buf)
}

fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo")
}

fn stay(console: &Console, world: &World, fleet: &mut Fleet, interrupted: &AtomicU32) -> Result<()> {
    console.say("\n  Still playing. Ctrl-C ends it and shows the figures. Meanwhile:");
    console.say(&format!(
        "    add a source of your own to {}:\n      [[source]]\n      type = \"exec\"\n      stream = \"my/load\"\n      kind = \"load\"\n      command = [\"sh\", \"-c\", \"while sleep 1; do cut -d' ' -f1 /proc/loadavg; done\"]\n      format = \"csv\"\n      fields = [ {{ name = \"load1\", type = \"f64\", unit = \"1\" }} ]",
        world.path("agent.toml").display()
    ));
    console
        .say(&format!("    then: touch {} (the demo restarts the agent)", world.path("restart").display()));
    console.say(&format!(
        "    read it: headwater --lake {} scan raw.load --at main",
        world.path("lake").display()
    ));
    while interrupted.load(Ordering::Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(300));
        fleet.check()?;
        if std::fs::remove_file(world.path("restart")).is_ok() {
            console.say("  restarting the agent");
            fleet.restart_agent()?;
        }
    }
    Ok(())
}

/// Leaves what `headwater` prints in a file of the run.
fn leave(world: &World, name: &str, words: &[&str]) -> Result<()> {
    let told = verbs::told(&world.path("lake"), words)?;
    std::fs::write(world.path(name), told).with_context(|| format!("failed to write {name}"))
}

struct Tell<'a> {
    args: &'a Args,
    world: &'a World,
    figures: &'a Figures,
    testimony: Option<&'a Testimony>,
    drive: &'a Drive,
    found: &'a Found,
    page: &'a Path,
    drained: bool,
    bytes_on_wire: u64,
    rss_agent_max: u64,
}

impl Tell<'_> {
    async fn all(&self) -> Result<()> {
        if self.args.json {
            println!("{}", self.json()?);
            return Ok(());
        }
        let lake = self.world.path("lake");
        println!("\nCommits (headwater --lake {} log):", lake.display());
        print!("{}", verbs::told(&lake, &["log", "--limit", "8"])?);
        println!("\nRows per table:");
        for (table, rows) in &self.figures.tables {
            println!("  {table:<20} {rows:>8}");
        }
        sheet::print(&lake.display().to_string(), &self.drive.shape, DEVICE).await?;
        if let Some(alignment) = &self.found.alignment {
            alignment.print();
        }
        self.found.held.print(&lake);
        println!("\nThe last commits with aligned rows, made anew from raw (headwater reproduce COMMIT):");
        self.found.reproduced.iter().for_each(Reproduced::print);
        self.losses();
        if let Some(testimony) = self.testimony {
            testimony.print();
            println!(
                "  its clock: headwater --lake {} clock {CLOCKLESS} (left in clock.txt and clock.svg)",
                lake.display()
            );
        }
        println!("\nReport with track, pictures and timeline: {}", self.page.display());
        self.how_to_read()
    }

    fn json(&self) -> Result<String> {
        let mut value = serde_json::to_value(self.figures)?;
        let more = serde_json::json!({
            "loss_window_ms": LOSS_WINDOW_MS,
            "bytes_on_wire": self.bytes_on_wire,
            "rss_agent_max": self.rss_agent_max,
            "drained": self.drained,
            "lake": self.world.path("lake").display().to_string(),
            "report": self.page.display().to_string(),
            "clockless": self.testimony.map(Testimony::json),
            "recipe": self.drive.recipe.display().to_string(),
            "aligned_table": self.drive.shape.table,
            "alignment": self.found.alignment.as_ref().map(Alignment::json),
            "bad_gateway": self.found.held.json(),
            "reproduced": self.found.reproduced.iter().map(Reproduced::json).collect::<Vec<_>>(),
        });
        if let (Some(all), Some(more)) = (value.as_object_mut(), more.as_object()) {
            all.extend(more.clone());
        }
        Ok(value.to_string())
    }

    fn losses(&self) {
        let f = self.figures;
        println!("\nLoss, computed from the lake against what was played:");
        println!("  emitted {}, captured {}, committed {}", f.emitted, f.captured, f.committed);
        println!("  lost {}, duplicate {}, wrong {}", f.lost, f.duplicate, f.wrong);
        println!("  gaps recorded {} rows, quarantined {}", f.gaps_recorded, f.quarantined);
        println!(
            "  emitted and not captured {} (loss window {} ms, while the agent was down, and the mishaps)",
            f.emitted_not_captured, LOSS_WINDOW_MS
        );
        println!(
            "  captured again {} (the agent was killed before it had noted a picture)",
            f.captured_again
        );
        println!(
            "  bytes on the wire {}, agent's memory at most {:.1} MiB",
            self.bytes_on_wire,
            self.rss_agent_max as f64 / f64::from(1 << 20)
        );
    }

    fn how_to_read(&self) -> Result<()> {
        let views = self.world.path("views.sql");
        println!(
            "\nOpen it in DuckDB (once: pip install duckdb==1.5.5 duckdb-extension-avro==1.5.5 duckdb-extension-httpfs==1.5.5 duckdb-extension-iceberg==1.5.5 pytz):"
        );
        let table = &self.drive.shape.table;
        println!("{}", report::duckdb_lines(&views, table));
        println!("\nin pyiceberg and polars (once: pip install 'pyiceberg[pyarrow]==0.12.0' polars==2.1.0):");
        println!("{}", report::pyiceberg_lines(&self.world.path("tables.json"), table));
        println!("\nThe gateway was {DEVICE}; its logs are in {}.", self.world.path("logs").display());
        Ok(())
    }
}
