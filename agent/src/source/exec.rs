//! A program that prints a line per reading.

use super::child::{Output, Program};
use super::framing::Decoded;
use super::lines::LineDecoder;
use headwater_core::id::StreamName;
use headwater_core::ports::{Clock, Source, SourceError, SourceEvent};

/// Bytes taken at once from a program.
const READ_BYTES: usize = 4_096;

/// The source.
#[derive(Debug)]
pub struct ExecSource<C> {
    clock: C,
    stream: StreamName,
    program: Program<C>,
    lines: LineDecoder,
    once: bool,
    over: bool,
    decoded: Decoded,
    buffer: Vec<u8>,
}

impl<C: Clock> ExecSource<C> {
    pub(super) fn new(
        clock: C,
        stream: StreamName,
        program: Program<C>,
        lines: LineDecoder,
        once: bool,
    ) -> Self {
        let buffer = vec![0; READ_BYTES];
        Self { clock, stream, program, lines, once, over: false, decoded: Decoded::default(), buffer }
    }

    pub(super) async fn close(&mut self) {
        self.program.close().await;
    }
}

impl<C: Clock> Source for ExecSource<C> {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            if let Some(event) = self.decoded.events.pop_front() {
                return Ok(event);
            }
            if self.over {
                return Err(SourceError::Ended);
            }
            let output = self.program.read(&mut self.buffer).await;
            let now = self.clock.boot();
            match output {
                Output::Bytes(bytes) => {
                    self.lines.push(self.buffer.get(..bytes).unwrap_or_default(), now, &mut self.decoded);
                }
                Output::Ended(_) => {
                    self.lines.ended(now, &mut self.decoded);
                    self.over = self.once;
                }
            }
            self.decoded.tell(&self.stream);
        }
    }
}
