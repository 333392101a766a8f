//! Tells the service manager how we are: one datagram to the socket it names in `NOTIFY_SOCKET` (sd_notify(3)), and no
//! library of its.
//!
//! Without such a socket nothing is told to nobody: in a container, under another manager, by hand.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Most bytes of the line that `systemctl status` shows.
const STATUS_BYTES_MAX: usize = 200;

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The spool is open and answers: what is captured from now on is kept.
    Ready,
    /// It still does. If this is not said for the unit's `WatchdogSec`, we are restarted.
    Alive,
    /// We were told to end, and drain.
    Stopping,
}

impl State {
    /// As the protocol has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY=1",
            Self::Alive => "WATCHDOG=1",
            Self::Stopping => "STOPPING=1",
        }
    }
}

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct ServiceManager {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl ServiceManager {
    /// The one that started us.
    ///
    /// # Errors
    /// What the system says of its socket.
    pub fn from_env() -> io::Result<Self> {
        match std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) {
            Some(name) => Self::at(&name),
            None => Ok(Self::default()),
        }
    }

    /// The one that listens at this socket: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// What the system says of it.
    pub fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                let what = "NOTIFY_SOCKET is neither a path nor an abstract name";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not listen must not hold up the agent.
        socket.set_nonblocking(true)?;
        Ok(Self { to: Some((socket, address)) })
    }

    /// Tells it a state, and a line for `systemctl status`.
    ///
    /// # Errors
    /// What the system says; the next word may arrive.
    pub fn tell(&self, state: State, status: &str) -> io::Result<()> {
        let Some((socket, address)) = &self.to else { return Ok(()) };
        let line = headwater_core::gap::truncated(status, STATUS_BYTES_MAX).replace('\n', " ");
        socket.send_to_addr(format!("{}\nSTATUS={line}", state.as_str()).as_bytes(), address).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn heard(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = [0; 1024];
        let len = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }

    #[test]
    fn each_word_is_one_datagram() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::at(path.as_os_str()).unwrap();
        manager.tell(State::Ready, "waiting for\nthe link").unwrap();
        manager.tell(State::Alive, &"x".repeat(500)).unwrap();
        manager.tell(State::Stopping, "").unwrap();
        assert_eq!(heard(&socket), "READY=1\nSTATUS=waiting for the link");
        assert_eq!(heard(&socket).len(), "WATCHDOG=1\nSTATUS=".len() + STATUS_BYTES_MAX);
        assert_eq!(heard(&socket), "STOPPING=1\nSTATUS=");
    }

    #[test]
    fn an_abstract_name_is_found_too() {
        let name = format!("headwater-notify-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let manager = ServiceManager::at(OsStr::new(&format!("@{name}"))).unwrap();
        manager.tell(State::Ready, "").unwrap();
        assert_eq!(heard(&socket), "READY=1\nSTATUS=");
    }

    #[test]
    fn a_manager_that_is_gone_or_deaf_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = ServiceManager::at(path.as_os_str()).unwrap();
        assert!(manager.tell(State::Alive, "").is_err(), "nobody is there");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let refused = (0..100_000).find_map(|_| manager.tell(State::Alive, "").err());
        assert_eq!(refused.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
        assert!(ServiceManager::at(OsStr::new("notify")).is_err());
        assert!(ServiceManager::default().tell(State::Ready, "").is_ok(), "without one all is well");
    }
}
