//! Two hosts with real clock daemons: here the broker, the collector and a chronyd that serves true time; there, in a network
//! of its own, the gateway and a chronyd that asks it, both under a wall clock that is wrong by seconds. NTP goes there and
//! back with unequal delays, which no client can see. Truth must lie within what each of them says.
//!
//! Needs root, network namespaces and chrony; says so if it is skipped:
//!   cargo test -p headwater-tests --test scenarios two_hosts -- --nocapture

use crate::other_host::{OtherHost, tool};
use crate::site::{Plan, Site};
use crate::wrong_clocks::{TRUE_TIME, false_clock, raw_rows};
use headwater_tests::procs::Proc;
use headwater_tests::truth::Table;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(180);
/// The wall clock there is ahead by this, ns.
const WRONG_NS: i64 = 3_700_000_000;
/// What chronyd's bound may add to its own offset once it has settled, ns: half the round trip, and some dispersion.
const SETTLED_NS: i64 = 200_000_000;
/// NTP's way there takes the longer.
const UP: Duration = Duration::from_millis(45);
const DOWN: Duration = Duration::from_millis(5);

/// UTC less boot time of this machine, ns: one kernel serves both hosts, so this is the truth for both.
#[expect(unsafe_code, reason = "std reads no boot time")]
fn truth() -> i64 {
    let read = |clock| {
        let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `at` is a valid timespec that outlives the call.
        assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut at) }, 0);
        at.tv_sec * 1_000_000_000 + at.tv_nsec
    };
    let narrow = (0..20).map(|_| {
        let (before, real, after) =
            (read(libc::CLOCK_BOOTTIME), read(libc::CLOCK_REALTIME), read(libc::CLOCK_BOOTTIME));
        (after - before, real - before - (after - before) / 2)
    });
    narrow.min().unwrap().1
}

/// Configuration of a chronyd that leaves the kernel's clock alone, below `dir`.
fn chronyd(
    chronyd: &Path,
    dir: &Path,
    name: &'static str,
    lines: &str,
) -> (PathBuf, Vec<std::ffi::OsString>) {
    let home = dir.join(name);
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    let conf = home.join("chrony.conf");
    let text = format!("{lines}\ncmdport 0\npidfile {0}/pid\nbindcmdaddress {0}/socket\n", home.display());
    fs::write(&conf, text).unwrap();
    // It may run with the agent's library: no filter of system calls, no other user.
    let args = ["-x", "-d", "-F", "0", "-u", "root", "-f"].map(Into::into);
    (chronyd.to_owned(), args.into_iter().chain([conf.into_os_string()]).collect())
}

#[test]
fn truth_lies_in_every_interval_between_two_hosts() {
    let (Some(daemon), Some(_)) = (tool("chronyd"), tool("chronyc")) else {
        eprintln!(
            "SKIPPED two_hosts: there is no chronyd or chronyc; install chrony (a folder in PATH will do)"
        );
        return;
    };
    let host = match OtherHost::start() {
        Ok(host) => host,
        Err(why) => {
            eprintln!("SKIPPED two_hosts: no network namespace ({why}); run it as root");
            return;
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let library = false_clock(dir.path(), -WRONG_NS / 1_000_000_000);
    // The rest of the seconds by the file, so that both parts of the library are in use.
    let shifts = dir.path().join("clock");
    let rest = WRONG_NS % 1_000_000_000;
    fs::write(&shifts, [rest.to_ne_bytes(), 0_i64.to_ne_bytes()].concat()).unwrap();

    let ntp: SocketAddr = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = ntp.port();
    let serve = format!("local stratum 8\nallow all\nbindaddress 127.0.0.1\nport {port}");
    let (program, args) = chronyd(&daemon, dir.path(), "server", &serve);
    let mut server = Proc::new("chronyd", program, args, dir.path().join("server.log"));
    server.start().unwrap();
    host.forward_udp(ntp, UP, DOWN);
    let ask = format!("server 127.0.0.1 port {port} minpoll -1 maxpoll -1 iburst\nport 0\nmaxclockerror 50");
    let (program, args) = chronyd(&daemon, dir.path(), "client", &ask);
    let (program, args) = host.command(&program, &args);
    let preload = library.clone().into_os_string();
    let mut client = Proc::new("chronyd", program, args, dir.path().join("client.log"))
        .with_env("LD_PRELOAD", preload)
        .with_env("HEADWATER_CLOCK", shifts.clone().into_os_string());
    client.start().unwrap();

    let clock = format!(
        "[clock]\nchrony = \"{0}/client/socket\"\nchrony_conf = \"{0}/client/chrony.conf\"\ngpsd = \"off\"\n",
        dir.path().display()
    );
    let plan = Plan {
        preload: Some(library),
        env: vec![("HEADWATER_CLOCK", shifts)],
        sources: TRUE_TIME,
        clock,
        host: Some(&host),
        ..Plan::default()
    };
    let mut site = Site::start(&plan);
    let words = || format!("{}\n{}", server.last_words(), client.last_words());
    // At first its own dispersion is seconds.
    site.wait(LIMIT, "chrony's word when it has settled, and the collector's", |site| {
        let status = site.status().map(|status| status.json()["clock"]["sources"].clone());
        let half = |name: &str| {
            let sources = status.as_ref()?.as_array()?;
            sources.iter().find(|source| source["source"] == name)?["half_ns"].as_i64()
        };
        half("chrony").is_some_and(|ns| ns < WRONG_NS + SETTLED_NS) && half("collector_exchange").is_some()
    });
    // Two more rounds of both.
    let rows = site.stream("hw/clock").map_or(0, |clock| clock.1);
    site.wait(LIMIT, "more rows of the clock", |site| {
        site.stream("hw/clock").is_some_and(|clock| clock.1 >= rows + 6)
    });
    site.drain(LIMIT, &["count"]);
    site.stop();
    let truth = truth();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lake = site.world.path("lake").display().to_string();
    let (daemons, exchanges) = runtime.block_on(judge(&lake, truth));
    assert!(daemons.len() >= 2 && exchanges.len() >= 2, "{daemons:?} {exchanges:?}\n{}", words());
    for (off, half) in daemons.iter().chain(&exchanges) {
        assert!(off.abs() <= *half, "truth is {off} ns off, the bound says {half}\n{}", words());
    }
    for (off, _) in &daemons {
        // The delays differ by 40 ms, so that the daemon itself is off by 20.
        assert!((off + WRONG_NS).abs() < 1_000_000, "{off}");
    }
    assert!(daemons.iter().any(|(_, half)| *half < WRONG_NS + SETTLED_NS), "{daemons:?}");
    let rows = runtime.block_on(raw_rows(&lake)).0;
    for (seq, row) in &rows {
        assert!((row.ts - row.utc).abs() <= row.err, "row {seq}: {row:?}");
    }
    println!("two hosts: {} rows, each within its bound; UTC less (wall clock ± half), ms:", rows.len());
    for (off, half) in daemons.iter().chain(&exchanges) {
        println!("  {:9.3} ± {:9.3}", *off as f64 / 1e6, *half as f64 / 1e6);
    }
}

/// What chrony and the collector said, each as true UTC less the middle of what was said, and its half width, ns.
async fn judge(location: &str, truth: i64) -> (Vec<(i64, i64)>, Vec<(i64, i64)>) {
    let lake = headwater_lake::Lake::open(location).await.unwrap();
    let commit = lake.resolve("main").await.unwrap();
    let table = Table::read(&lake, &commit, "ops.clock").await.unwrap().unwrap();
    let (kinds, sources) = (table.texts("row_kind").unwrap(), table.texts("source").unwrap());
    let column = |name: &str| table.integers(name).unwrap();
    let [b1, b2, real, half] = ["b1_ns", "b2_ns", "real_ns", "half_ns"].map(column);
    let [t1, t2, t3, t4, e_c] = ["t1_ns", "t2_ns", "t3_ns", "t4_ns", "e_c_ns"].map(column);
    let (mut daemons, mut exchanges) = (Vec::new(), Vec::new());
    for n in 0..kinds.len() {
        match (kinds[n].as_deref(), sources[n].as_deref()) {
            (Some("sample"), Some("chrony")) => {
                let middle = b1[n].unwrap() + (b2[n].unwrap() - b1[n].unwrap()) / 2;
                // Before it is synchronised it claims nothing.
                let Some(half) = half[n] else { continue };
                daemons.push((truth + middle - real[n].unwrap(), half));
            }
            (Some("exchange"), _) => {
                let (Some(t1), Some(t2), Some(t3), Some(t4)) = (t1[n], t2[n], t3[n], t4[n]) else { continue };
                // U(t1) ≤ t2 + e_c and U(t4) ≥ t3 − e_c, both as UTC less boot time.
                let (hi, lo) = (t2 + e_c[n].unwrap() - t1, t3 - e_c[n].unwrap() - t4);
                exchanges.push((truth - lo - (hi - lo) / 2, (hi - lo) / 2 + 1));
            }
            _ => {}
        }
    }
    (daemons, exchanges)
}
