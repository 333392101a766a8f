//! Asks chronyd through its own program; without it, or without an answer, nothing is claimed.

use super::chrony::{ANSWER_BYTES_MAX, ChronyConf, Include, Tracking};
use super::report::Report;
use crate::config::{ChronySettings, Pick};
use crate::stamp::track::TimeSource;
use headwater_core::time::BootNanos;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// Longest wait for its answer: chronyc itself gives up after three tries of a second.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Largest file of a configuration that is read, bytes.
const CONF_BYTES_MAX: u64 = 64 << 10;
/// Most files of a configuration.
const CONF_FILES_MAX: usize = 64;
/// Where distributions keep it.
const CONF_FILES: [&str; 2] = ["/etc/chrony/chrony.conf", "/etc/chrony.conf"];

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// There is no such program.
    NoProgram,
    /// It says nothing of use.
    Silent(String),
}

/// Asks once; `asked` is now.
pub(super) async fn ask(settings: &ChronySettings, asked: BootNanos) -> Result<Report, NoAnswer> {
    ask_through("chronyc".as_ref(), settings, asked).await
}

async fn ask_through(
    program: &Path,
    settings: &ChronySettings,
    asked: BootNanos,
) -> Result<Report, NoAnswer> {
    let mut command = Command::new(program);
    // Numbers instead of names: a name server may be out of reach for minutes.
    command.args(["-n", "-c"]);
    if let Pick::This(host) = &settings.daemon {
        command.args(["-h", host]);
    }
    let command = command
        .arg("tracking")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let answer = async {
        let mut child = command.spawn()?;
        let mut answer = Vec::new();
        if let Some(output) = child.stdout.take() {
            output.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        }
        // Closed by us if it would say more: it ends then.
        child.wait().await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = match tokio::time::timeout(ANSWER_LIMIT, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Err(NoAnswer::NoProgram),
        Ok(Err(error)) => return Err(NoAnswer::Silent(format!("chronyc cannot be asked: {error}"))),
        Err(_) => return Err(NoAnswer::Silent("chronyc does not answer".to_owned())),
    };
    let text = String::from_utf8_lossy(&answer);
    let tracking = Tracking::parse(&text).map_err(|why| match text.trim() {
        "" => NoAnswer::Silent("chronyd is not running, or not to be asked".to_owned()),
        said if said.starts_with("506") => NoAnswer::Silent("chronyd is not running".to_owned()),
        _ => NoAnswer::Silent(why),
    })?;
    let conf = settings.conf.clone();
    let guaranteed = tokio::task::spawn_blocking(move || bounds_its_clock(conf.as_deref())).await;
    Ok(Report::Chrony { tracking, asked, guaranteed: guaranteed.unwrap_or(false) })
}

/// Of a failure to ask.
pub(super) fn silent(settings: &ChronySettings, why: String) -> Report {
    Report::Silent { source: TimeSource::Chrony, why, wanted: matches!(settings.daemon, Pick::This(_)) }
}

/// Whether chronyd's configuration says `maxclockerror 50` or more, and nowhere less.
pub(super) fn bounds_its_clock(named: Option<&Path>) -> bool {
    let main =
        named.map(Path::to_owned).or_else(|| CONF_FILES.iter().map(PathBuf::from).find(|file| file.exists()));
    let (mut conf, mut open) = (ChronyConf::default(), Vec::from_iter(main));
    let mut read = 0;
    while let Some(file) = open.pop() {
        read += 1;
        let Some(text) = text_of(&file).filter(|_| read <= CONF_FILES_MAX) else {
            // What cannot be read may say anything.
            return false;
        };
        conf.read(&text);
        for include in std::mem::take(&mut conf.includes) {
            match include {
                Include::File(file) => open.push(PathBuf::from(file)),
                Include::Folders(folders) => open.extend(folders.iter().flat_map(|folder| confs(folder))),
            }
        }
    }
    conf.bounds_its_clock()
}

fn text_of(file: &Path) -> Option<String> {
    let mut text = String::new();
    std::fs::File::open(file).ok()?.take(CONF_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

fn confs(folder: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let files = entries.flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|e| e == "conf")).take(CONF_FILES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const ANSWER: &str = "7F000001,127.0.0.1,9,1795860209.567333534,-0.000001219,-0.000000000,0.000001564,0.015,0.000,0.072,0.000006489,0.000053358,0.3,Normal";

    /// Asks a chronyc that does this.
    async fn asked(script: &str) -> Result<Report, NoAnswer> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("chronyc");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let conf = dir.path().join("chrony.conf");
        std::fs::write(&conf, "maxclockerror 50").unwrap();
        let settings = ChronySettings { daemon: Pick::Auto, conf: Some(conf) };
        loop {
            let asked = ask_through(&program, &settings, BootNanos(7)).await;
            // A fork of another test may hold the file we wrote for a moment.
            match asked {
                Err(NoAnswer::Silent(why)) if why.contains("Text file busy") => {}
                asked => return asked,
            }
        }
    }

    fn silence(asked: Result<Report, NoAnswer>) -> String {
        match asked {
            Err(NoAnswer::Silent(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_answer_is_reported_with_what_its_configuration_promises() {
        // Numbers, one line, and nobody's environment: as it is called for real.
        let answered = asked(&format!("[ \"$*\" = '-n -c tracking' ] && echo '{ANSWER}'")).await;
        let Ok(Report::Chrony { tracking, asked, guaranteed }) = answered else { panic!("{answered:?}") };
        assert_eq!((tracking.stratum, asked, guaranteed), (9, BootNanos(7), true));
    }

    #[tokio::test]
    async fn rubbish_floods_and_failures_are_silence() {
        assert!(silence(asked("echo '506 Cannot talk to daemon'; exit 1").await).contains("not running"));
        assert!(silence(asked("exit 1").await).contains("not running"));
        assert!(silence(asked("echo a,b,c").await).contains("3 fields"));
        assert!(silence(asked("exec yes a,b,c").await).contains("3 fields"), "it ends when nobody reads");
        assert!(silence(asked("exec head -c 100000 /dev/zero").await).contains("1 fields"));
        let settings = ChronySettings { daemon: Pick::Auto, conf: None };
        let none = ask_through("/nowhere/chronyc".as_ref(), &settings, BootNanos(0)).await;
        assert!(matches!(none, Err(NoAnswer::NoProgram)));
    }

    /// Time is tokio's here: it passes at once when all wait.
    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_given_up() {
        assert_eq!(silence(asked("exec sleep 1000").await), "chronyc does not answer");
    }

    #[test]
    fn a_configuration_is_read_with_what_it_takes_in() {
        let dir = tempfile::tempdir().unwrap();
        let (main, folder) = (dir.path().join("chrony.conf"), dir.path().join("conf.d"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&main, format!("rtcsync\nconfdir {}\n", folder.display())).unwrap();
        assert!(!bounds_its_clock(Some(&main)));
        std::fs::write(folder.join("bound.conf"), "maxclockerror 60").unwrap();
        std::fs::write(folder.join("bound.txt"), "maxclockerror 1").unwrap();
        assert!(bounds_its_clock(Some(&main)));
        std::fs::write(folder.join("more.conf"), "maxclockerror 1").unwrap();
        assert!(!bounds_its_clock(Some(&main)), "somewhere it says less");
        std::fs::write(folder.join("more.conf"), format!("include {}", main.display())).unwrap();
        assert!(!bounds_its_clock(Some(&main)), "a circle ends");
        assert!(!bounds_its_clock(Some(&dir.path().join("none.conf"))));
    }
}
