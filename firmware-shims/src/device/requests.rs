//! CONFIG and COMMAND: done once for each token, in this boot only, one at a time.

use super::Device;
use crate::link::{BuildError, Command, Config, LinkType, Reply, ReplyCode, RequestData, STREAM_DEVICE};

/// Something the host asks for; answer it by [`Device::reply`] or [`Device::reply_value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// One of the device's streams, or [`STREAM_DEVICE`].
    pub stream: u8,
    /// What it is.
    pub wish: Wish,
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Set a value; answer with the one then in force.
    Config {
        /// [`KEY_ENABLED`](crate::link::KEY_ENABLED) and so on.
        key: u8,
        /// The value.
        value: i32,
    },
    /// Do something once.
    Command {
        /// [`COMMAND_RESET`](crate::link::COMMAND_RESET) and so on.
        command: u8,
        /// With what.
        args: RequestData,
    },
}

#[derive(Debug)]
pub(super) struct Requests {
    /// That of the latest request that was not ignored.
    token: Option<u16>,
    /// It was not answered yet.
    open: bool,
}

impl Requests {
    pub(super) const fn new() -> Self {
        Self { token: None, open: false }
    }
}

impl<const S: usize, const RX: usize, const TX: usize> Device<'_, S, RX, TX> {
    /// Answers the open request; `t_us` is when it took effect.
    ///
    /// The REPLY cannot be dropped and leaves after all that was offered before.
    ///
    /// # Errors
    /// [`BuildError::NoRequest`] if none is open, [`BuildError::DataTooLong`].
    pub fn reply(&mut self, code: ReplyCode, data: &[u8], t_us: u64) -> Result<(), BuildError> {
        let data = RequestData::new(data).ok_or(BuildError::DataTooLong)?;
        self.answer(code, data, self.knob.time(t_us))
    }

    /// Answers the open CONFIG with the value that is in force now.
    ///
    /// # Errors
    /// [`BuildError::NoRequest`] if none is open.
    pub fn reply_value(&mut self, code: ReplyCode, in_force: i32, t_us: u64) -> Result<(), BuildError> {
        self.reply(code, &in_force.to_le_bytes(), t_us)
    }

    pub(super) fn config(&mut self, config: Config, t_us: u64) -> Option<Request> {
        let Config { boot_nonce, token, stream, key, value } = config;
        self.accept(boot_nonce, token, Request { stream, wish: Wish::Config { key, value } }, t_us)
    }

    pub(super) fn command(&mut self, asked: Command, t_us: u64) -> Option<Request> {
        let Command { boot_nonce, token, stream, command, args } = asked;
        self.accept(boot_nonce, token, Request { stream, wish: Wish::Command { command, args } }, t_us)
    }

    fn accept(&mut self, boot_nonce: u32, token: u16, request: Request, t_us: u64) -> Option<Request> {
        let stats = &mut self.stats;
        if boot_nonce != self.boot_nonce {
            stats.requests_stale = stats.requests_stale.wrapping_add(1);
            return None;
        }
        if self.requests.token == Some(token) {
            stats.requests_repeated = stats.requests_repeated.wrapping_add(1);
            if !self.requests.open {
                self.tx.repeat_reply();
            }
            return None;
        }
        if self.requests.open || self.tx.reply_waits() {
            // The slot holds one REPLY. The host repeats what it got no answer to.
            stats.requests_ignored = stats.requests_ignored.wrapping_add(1);
            return None;
        }
        self.requests = Requests { token: Some(token), open: true };
        if request.stream == STREAM_DEVICE || usize::from(request.stream) < S {
            return Some(request);
        }
        // Cannot fail: a request is open, and the slot is free.
        let answered = self.answer(ReplyCode::Unknown, RequestData::default(), t_us);
        debug_assert_eq!(answered, Ok(()));
        None
    }

    /// `t_us` is what the device's clock shows, wrong or right.
    fn answer(&mut self, code: ReplyCode, data: RequestData, t_us: u64) -> Result<(), BuildError> {
        let token = self.requests.token.filter(|_| self.requests.open).ok_or(BuildError::NoRequest)?;
        let mut payload = [0; 19];
        let len = Reply { token, code, data }.encode(&mut payload)?;
        let header = self.own_header(LinkType::Reply, t_us);
        self.requests.open = false;
        self.tx.offer_reply(header, payload.get(..len).unwrap_or_default());
        Ok(())
    }
}
