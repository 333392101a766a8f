//! A second host on this machine: a network of its own (a network namespace with nothing but a loopback), reached only by
//! what a test forwards across, with a delay each way.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How soon forwarders see that the host is gone.
const LOOK: Duration = Duration::from_millis(200);
/// Largest datagram of NTP with extensions.
const DATAGRAM_BYTES: usize = 2_048;

/// A tool of the system, where distributions put it.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir: PathBuf| dir.join(name)).find(|file| file.is_file())
}

/// The host. Its namespace goes when it does.
#[derive(Debug)]
pub(crate) struct OtherHost {
    /// Keeps the namespace while it sleeps.
    holder: Child,
    gone: Arc<AtomicBool>,
}

impl OtherHost {
    /// Makes one; else why this machine does not let us.
    pub(crate) fn start() -> Result<Self, String> {
        let told = |error: io::Error| error.to_string();
        // It says so once it is inside, with its loopback up.
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 3600"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(told)?;
        let mut up = String::new();
        if let Some(output) = holder.stdout.take() {
            io::BufRead::read_line(&mut io::BufReader::new(output), &mut up).map_err(told)?;
        }
        if up.trim() != "up" {
            let said = holder.wait_with_output().map_err(told)?;
            return Err(String::from_utf8_lossy(&said.stderr).trim().to_owned());
        }
        Ok(Self { holder, gone: Arc::default() })
    }

    /// The words that run `program` there.
    pub(crate) fn command(&self, program: &Path, args: &[OsString]) -> (PathBuf, Vec<OsString>) {
        let target = self.holder.id().to_string();
        let mut words: Vec<OsString> = ["-t", &target, "-n"].map(Into::into).to_vec();
        words.push(program.as_os_str().to_owned());
        words.extend_from_slice(args);
        (PathBuf::from("nsenter"), words)
    }

    /// Makes something there, such as a socket, which stays there.
    #[expect(unsafe_code, reason = "std does not move threads between namespaces")]
    fn inside<T: Send + 'static>(&self, make: impl FnOnce() -> T + Send + 'static) -> T {
        let net = File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        std::thread::spawn(move || {
            // SAFETY: the fd is open, and the call changes nothing but the namespace of this thread, which ends here.
            let failed = unsafe { libc::setns(net.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(failed, 0, "{}", io::Error::last_os_error());
            make()
        })
        .join()
        .unwrap()
    }

    /// Connections to `at` there go to `at` here.
    pub(crate) fn forward_tcp(&self, at: SocketAddr) {
        let listener = self.inside(move || TcpListener::bind(at).unwrap());
        listener.set_nonblocking(true).unwrap();
        let gone = Arc::clone(&self.gone);
        std::thread::spawn(move || {
            while !gone.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((there, _)) => {
                        // Refused here is refused there: the connection is closed.
                        if let Ok(here) = TcpStream::connect(at) {
                            there.set_nonblocking(false).unwrap();
                            join(&there, &here);
                        }
                    }
                    Err(_) => std::thread::sleep(LOOK / 10),
                }
            }
        });
    }

    /// Datagrams to `at` there go to `at` here, `up` later, and answers back, `down` later.
    pub(crate) fn forward_udp(&self, at: SocketAddr, up: Duration, down: Duration) {
        let there = self.inside(move || UdpSocket::bind(at).unwrap());
        let there = Arc::new(there);
        let gone = Arc::clone(&self.gone);
        there.set_read_timeout(Some(LOOK)).unwrap();
        std::thread::spawn(move || {
            let mut datagram = [0; DATAGRAM_BYTES];
            while !gone.load(Ordering::Relaxed) {
                let Ok((bytes, from)) = there.recv_from(&mut datagram) else { continue };
                let (asked, there) = (datagram[..bytes].to_vec(), Arc::clone(&there));
                std::thread::spawn(move || {
                    std::thread::sleep(up);
                    let here = UdpSocket::bind("127.0.0.1:0").unwrap();
                    here.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                    here.send_to(&asked, at).unwrap();
                    let mut answer = [0; DATAGRAM_BYTES];
                    if let Ok(bytes) = here.recv(&mut answer) {
                        std::thread::sleep(down);
                        there.send_to(&answer[..bytes], from).unwrap();
                    }
                });
            }
        });
    }
}

/// Bytes both ways until one end closes.
fn join(there: &TcpStream, here: &TcpStream) {
    for (from, to) in [(there, here), (here, there)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || {
            // Whatever ends it ends both ways.
            drop(io::copy(&mut from, &mut to));
            drop(to.shutdown(std::net::Shutdown::Both));
            drop(from.shutdown(std::net::Shutdown::Both));
        });
    }
}

impl Drop for OtherHost {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
