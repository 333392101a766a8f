//! An ARM64 gateway: the kernel and the package as `cross/vm` puts them together, a disk that outlives its power, and a
//! serial port whose other end is a socket, such as an emulated board's.

use super::commands::Commands;
use super::{ANSWER_LIMIT, words};
use crate::other_host::tool;
use headwater_tests::procs::Proc;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// From power on to the first answer: 20 s on a quiet host, and its emulator is one of many processes.
const BOOT_LIMIT: Duration = Duration::from_secs(600);
/// Memory, MB: a Pi Zero has twice as much.
const MEMORY_MB: u32 = 256;

/// What it is made of.
#[derive(Debug)]
pub(crate) struct ArmParts {
    qemu: PathBuf,
    script: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
}

impl ArmParts {
    /// Puts the package at `deb` into an initial file system below `dir`; else what is missing.
    pub(crate) fn of(deb: &Path, dir: &Path) -> Result<Self, String> {
        let qemu = tool("qemu-system-aarch64").ok_or("there is no qemu-system-aarch64")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cross/vm");
        let initrd = dir.join("initrd");
        run(&script, [OsStr::new("initrd"), deb.as_os_str(), initrd.as_os_str()])?;
        let kernel = PathBuf::from(run(&script, [OsStr::new("kernel")])?.trim());
        Ok(Self { qemu, script, kernel, initrd })
    }

    /// A disk with the files of `folder`, which the machine has as `/var/lib/headwater`.
    pub(crate) fn disk(&self, folder: &Path, file: &Path) -> Result<(), String> {
        run(&self.script, [OsStr::new("disk"), folder.as_os_str(), file.as_os_str()]).map(drop)
    }
}

fn run<'a>(script: &Path, args: impl IntoIterator<Item = &'a OsStr>) -> Result<String, String> {
    let done = Command::new(script).args(args).output().map_err(|e| format!("{}: {e}", script.display()))?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

/// A gateway that runs. It loses its power when it is dropped.
#[derive(Debug)]
pub(crate) struct ArmMachine {
    proc: Proc,
    console: PathBuf,
    commands: Commands,
}

impl ArmMachine {
    /// Switches it on, with this disk and a board that listens at the socket `board`.
    pub(crate) fn start(parts: &ArmParts, dir: &Path, disk: &Path, board: &Path) -> Self {
        let (console, commands) = (dir.join("console.log"), dir.join("commands"));
        let word = |text: &str| OsString::from(text);
        let mut args: Vec<OsString> =
            ["-M", "virt", "-cpu", "cortex-a72", "-smp", "1", "-nodefaults", "-display", "none"]
                .map(word)
                .into();
        args.extend([word("-m"), MEMORY_MB.to_string().into(), word("-no-reboot")]);
        args.extend([
            word("-kernel"),
            parts.kernel.clone().into(),
            word("-initrd"),
            parts.initrd.clone().into(),
        ]);
        args.extend([word("-append"), word("console=ttyAMA0 quiet panic=-1 plan=gateway")]);
        args.extend([word("-serial"), format!("file:{}", console.display()).into()]);
        args.extend([word("-netdev"), word("user,id=net"), word("-device")]);
        args.push(word("virtio-net-pci,netdev=net,romfile="));
        // What the guest has synced is in the file when the power goes; what it has not is gone.
        args.extend([word("-drive"), format!("file={},format=raw,if=none,id=disk", disk.display()).into()]);
        args.extend([word("-device"), word("virtio-blk-pci,drive=disk")]);
        args.extend([word("-chardev"), format!("socket,id=board,path={}", board.display()).into()]);
        args.extend([word("-device"), word("pci-serial,chardev=board"), word("-chardev")]);
        args.push(format!("socket,id=commands,path={},server=on,wait=off", commands.display()).into());
        args.extend([word("-device"), word("pci-serial,chardev=commands")]);
        let mut proc = Proc::new("qemu", parts.qemu.clone(), args, dir.join("qemu.log"));
        proc.start().unwrap();
        let commands = Commands::connect(&commands, &mut proc);
        let mut machine = Self { proc, console, commands };
        machine.answer("ready", BOOT_LIMIT);
        machine
    }

    /// Says a command and gives what it answers.
    pub(crate) fn tell(&mut self, command: &str) -> String {
        let verb = self.commands.say(command);
        self.answer(verb, ANSWER_LIMIT)
    }

    fn answer(&mut self, verb: &str, limit: Duration) -> String {
        self.commands.answer(verb, limit).unwrap_or_else(|why| panic!("{why}\n{}", self.words()))
    }

    /// What it said last.
    pub(crate) fn words(&self) -> String {
        words(&self.proc, &self.console)
    }

    /// Panics if it has ended.
    pub(crate) fn check(&mut self) {
        let words = self.words();
        self.proc.check().unwrap_or_else(|e| panic!("{e}\n{words}"));
    }

    /// Takes its power away, between two instructions.
    pub(crate) fn cut(mut self) {
        self.proc.kill().unwrap();
    }
}
