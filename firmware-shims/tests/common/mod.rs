//! The C side of the link as a program of its own: compiled once by the host's compiler, then asked line by line.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

/// The crate's folder.
pub(crate) fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A tool is not there: says so, and fails where tools are required.
pub(crate) fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
    let required = std::env::var_os("HEADWATER_REQUIRE_EMULATORS").is_some_and(|value| value == "1");
    assert!(!required, "HEADWATER_REQUIRE_EMULATORS=1, but {why}");
}

/// Whether a program can be started.
pub(crate) fn have(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success())
}

/// Runs a program to its end; panics with what it said if it fails.
pub(crate) fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}:\n{said}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Bytes as the helper writes them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("string");
        text
    })
}

/// The helper, running. It ends when its input does.
pub(crate) struct Helper {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts it, or says why not.
    pub(crate) fn start() -> Option<Self> {
        static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
        let program = BUILT.get_or_init(build).as_ref()?;
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("what was just built can be started");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("piped"));
        Some(Self { child, input, output: BufReader::new(output) })
    }

    /// Says one line; returns what it answers.
    pub(crate) fn ask(&mut self, line: &str) -> Vec<String> {
        self.ask_all(&[line.to_owned()]).pop().expect("one answer for one line")
    }

    /// Says many lines, a few at a time: answers to so few always fit the pipe.
    pub(crate) fn ask_all(&mut self, lines: &[String]) -> Vec<Vec<String>> {
        let mut answers = Vec::new();
        for lines in lines.chunks(8) {
            self.say(&lines.join("\n"));
            answers.extend(lines.iter().map(|line| self.answer(line)));
        }
        answers
    }

    fn say(&mut self, text: &str) {
        let input = self.input.as_mut().expect("open until dropped");
        input.write_all(format!("{text}\n").as_bytes()).expect("the helper listens");
    }

    fn answer(&mut self, line: &str) -> Vec<String> {
        let mut answer = Vec::new();
        loop {
            let mut said = String::new();
            let read = self.output.read_line(&mut said).expect("the helper answers");
            assert!(read != 0, "the helper ended at: {line}");
            match said.trim_end_matches('\n') {
                "." => return answer,
                text => answer.push(text.to_owned()),
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.input.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the helper cannot be waited for: {error}");
        }
    }
}

/// Builds the helper; it gets its name last, so that test programs may do so side by side.
fn build() -> Option<PathBuf> {
    if !have("cc") {
        skipped("no C compiler `cc`: install gcc");
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (fresh, program) =
        (folder.join(format!("link-helper-{}", std::process::id())), folder.join("link-helper"));
    run(Command::new("cc")
        .args([
            "-std=c99",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-DHW_LINK_KNOB",
            "-D_POSIX_C_SOURCE=200809L",
        ])
        .args(["-fsanitize=undefined", "-fno-sanitize-recover=all"])
        .arg("-I")
        .arg(here().join("c/include"))
        .arg("-o")
        .arg(&fresh)
        .arg(here().join("tests/c/helper.c")));
    std::fs::rename(&fresh, &program).expect("same folder");
    Some(program)
}
