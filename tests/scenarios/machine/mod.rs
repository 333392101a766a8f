//! A gateway in a virtual machine: a kernel of its own, whose wall clock may be set without touching this host's.
//!
//! No disk image: everything it has is in an archive made for the run (the agent, chrony, busybox and the libraries they
//! name), and it talks over a network of QEMU's own and two serial lines: one that brings the truth, one for commands.

mod archive;
pub(crate) mod arm;
mod commands;

use crate::other_host::tool;
use archive::Archive;
use commands::Commands;
use headwater_tests::procs::Proc;
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// From power on to the first answer: an emulated machine takes some ten times as long as a real one.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// Longest time a command may take to be answered.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Memory, MB: the archive lies in it twice while it is unpacked.
const MEMORY_MB: u32 = 1_024;
/// The network card's driver, what it needs first.
const MODULES: [&str; 8] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
];
/// What this host is called over there: a name the broker's certificate has.
const HERE: &str = "10.0.2.2 localhost\n";

/// What a machine is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    qemu: PathBuf,
    busybox: PathBuf,
    chronyd: PathBuf,
    chronyc: PathBuf,
    kernel: PathBuf,
    modules: PathBuf,
}

impl Parts {
    /// Looks for them; else which is missing.
    pub(crate) fn find() -> Result<Self, String> {
        let needed = |name: &str| tool(name).ok_or(format!("there is no {name}"));
        let root = std::env::var_os("HEADWATER_VM_KERNEL").ok_or("HEADWATER_VM_KERNEL names no kernel")?;
        let root = PathBuf::from(root);
        let kernel = first_in(&root.join("boot"), "vmlinuz-")?;
        let version = first_in(&root.join("lib/modules"), "")?;
        Ok(Self {
            qemu: needed("qemu-system-x86_64")?,
            busybox: needed("busybox")?,
            chronyd: needed("chronyd")?,
            chronyc: needed("chronyc")?,
            kernel,
            modules: version.join("kernel"),
        })
    }
}

/// The last words of a machine, and what its console showed last.
fn words(proc: &Proc, console: &Path) -> String {
    let shown = std::fs::read(console).unwrap_or_default();
    let from = shown.len().saturating_sub(8_000);
    format!("{}\n{}", proc.last_words(), String::from_utf8_lossy(&shown[from..]))
}

fn first_in(folder: &Path, begins: &str) -> Result<PathBuf, String> {
    let listed = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut found: Vec<PathBuf> = listed
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begins)))
        .collect();
    found.sort();
    found.pop().ok_or(format!("{} holds no {begins}*", folder.display()))
}

/// A machine that runs. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    proc: Proc,
    console: PathBuf,
    commands: Commands,
    truth: PathBuf,
}

impl Machine {
    /// Starts one whose battery clock shows `rtc`, such as `1970-01-01T00:00:00`. `gateway` is a folder it has as
    /// `/gateway`, with `agent.toml`; `chrony_conf` is what its chronyd is told.
    pub(crate) fn start(
        parts: &Parts,
        dir: &Path,
        rtc: &str,
        agent: &Path,
        gateway: &Path,
        chrony_conf: &str,
    ) -> Self {
        let stripped = dir.join("agent");
        // Debug information would be most of the archive.
        let strip = Command::new("strip").arg("-o").arg(&stripped).arg(agent).status().unwrap();
        assert!(strip.success());
        let mut archive = Archive::default();
        let init = include_str!("init.sh")
            .replace("MODULES", &MODULES.map(|path| path.rsplit('/').next().unwrap_or(path)).join(" "));
        archive.file("init", 0o755, init.into_bytes());
        archive.program("bin/busybox", &parts.busybox);
        archive.program("bin/agent", &stripped);
        archive.program("bin/chronyd", &parts.chronyd);
        archive.program("bin/chronyc", &parts.chronyc);
        archive.file("etc/hosts", 0o644, HERE.into());
        archive.file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n".to_vec());
        archive.file("etc/chrony.conf", 0o644, chrony_conf.into());
        for module in MODULES {
            let file = parts.modules.join(format!("{module}.ko"));
            let name = format!("modules/{}", file.file_name().unwrap().to_str().unwrap());
            archive.file(&name, 0o644, std::fs::read(file).unwrap());
        }
        archive.folder("gateway", gateway);
        let initrd = dir.join("initrd");
        std::fs::write(&initrd, archive.finish()).unwrap();

        let (console, truth, commands) = (dir.join("console.log"), dir.join("truth"), dir.join("commands"));
        let line = |name: &str, path: &Path| {
            let socket = format!("socket,id={name},path={},server=on,wait=off", path.display());
            [OsString::from("-chardev"), socket.into(), "-serial".into(), format!("chardev:{name}").into()]
        };
        // Emulated unless asked: KVM within a virtual machine may stop at instructions its host cannot emulate.
        let accel = std::env::var_os("HEADWATER_VM_ACCEL").unwrap_or_else(|| "tcg".into());
        let mut args: Vec<OsString> = ["-nodefaults", "-display", "none", "-accel"].map(Into::into).to_vec();
        args.push(accel);
        // All this host's emulator can: the agent is built for more than the oldest of its kind.
        args.extend(["-cpu".into(), "max".into()]);
        args.extend(["-m".into(), MEMORY_MB.to_string().into(), "-rtc".into(), format!("base={rtc}").into()]);
        args.extend(["-kernel".into(), parts.kernel.clone().into_os_string()]);
        args.extend(["-initrd".into(), initrd.into_os_string()]);
        args.extend(["-append".into(), "console=ttyS0 quiet panic=-1".into(), "-no-reboot".into()]);
        args.extend(["-netdev".into(), "user,id=net".into()]);
        args.extend(["-device".into(), "virtio-net-pci,netdev=net,romfile=".into()]);
        args.extend(["-serial".into(), format!("file:{}", console.display()).into()]);
        args.extend(line("truth", &truth));
        args.extend(line("commands", &commands));
        let mut proc = Proc::new("qemu", parts.qemu.clone(), args, dir.join("qemu.log"));
        proc.start().unwrap();
        let commands = Commands::connect(&commands, &mut proc);
        let mut machine = Self { proc, console, commands, truth };
        machine.answer("ready", BOOT_LIMIT);
        machine
    }

    /// The line on which the truth is told.
    pub(crate) fn truth(&self) -> UnixStream {
        UnixStream::connect(&self.truth).unwrap()
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
}
