//! Pseudo-terminals: the far end of a serial line, as a sensor has it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A line whose near end is a device path and whose far end is ours.
#[derive(Debug)]
pub struct Line {
    far: File,
    /// Held open so that the far end never sees a hang-up while the agent is away.
    _near: File,
    path: PathBuf,
}

impl Line {
    /// Opens a raw pseudo-terminal.
    ///
    /// # Errors
    /// What the system says.
    #[expect(unsafe_code, reason = "openpty, ttyname_r, cfmakeraw and fcntl have no safe form in std")]
    pub fn open() -> io::Result<Self> {
        let (mut far, mut near) = (-1, -1);
        let mut name: [libc::c_char; 128] = [0; 128];
        // SAFETY: both descriptors and the name buffer are valid for writing; the null pointers ask for defaults.
        let rc = unsafe {
            libc::openpty(
                &raw mut far,
                &raw mut near,
                std::ptr::null_mut(),
                std::ptr::null(),
                std::ptr::null(),
            )
        };
        if rc != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: openpty returned two fresh descriptors that nobody else owns.
        let (far, near) = unsafe { (OwnedFd::from_raw_fd(far), OwnedFd::from_raw_fd(near)) };
        // SAFETY: `name` is a valid buffer of the stated length, `near` an open terminal.
        let rc = unsafe { libc::ttyname_r(near.as_raw_fd(), name.as_mut_ptr(), name.len()) };
        if rc != 0 {
            return Err(io::Error::from_raw_os_error(rc));
        }
        // SAFETY: ttyname_r wrote a terminated string into `name`.
        let path =
            PathBuf::from(unsafe { std::ffi::CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned());
        // SAFETY: `termios` is plain data filled by tcgetattr; both calls get an open terminal.
        unsafe {
            let mut termios: libc::termios = std::mem::zeroed();
            libc::tcgetattr(near.as_raw_fd(), &raw mut termios);
            libc::cfmakeraw(&raw mut termios);
            libc::tcsetattr(near.as_raw_fd(), libc::TCSANOW, &raw const termios);
            let flags = libc::fcntl(far.as_raw_fd(), libc::F_GETFL);
            libc::fcntl(far.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK);
        }
        Ok(Self { far: File::from(far), _near: File::from(near), path })
    }

    /// The device path the agent opens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts bytes on the wire; what nobody reads is lost, as on a real line.
    pub fn put(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.far.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(_) => return,
            }
        }
    }

    /// What arrived from the agent since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        let mut bytes = [0; 512];
        match self.far.read(&mut bytes) {
            Ok(n) => bytes[..n].to_vec(),
            Err(_) => Vec::new(),
        }
    }
}
