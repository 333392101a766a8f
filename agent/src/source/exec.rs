//! A program that prints a line per reading.

use super::arrival::Reads;
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
    reads: Reads,
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
        let (decoded, reads) = (Decoded::default(), Reads::default());
        Self { clock, stream, program, lines, once, over: false, decoded, reads, buffer }
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
            let waited_from = self.clock.boot();
            let output = self.program.read(&mut self.buffer).await;
            let now = self.clock.boot();
            match output {
                Output::Bytes(bytes) => {
                    let read = self.reads.read(waited_from, now, bytes < READ_BYTES);
                    self.lines.push(self.buffer.get(..bytes).unwrap_or_default(), read, &mut self.decoded);
                }
                // Its lines are all it says.
                Output::Stamps(_) => {}
                Output::Ended(_) => {
                    self.lines.ended(now, &mut self.decoded);
                    self.reads.opened(now);
                    self.over = self.once;
                }
            }
            self.decoded.tell(&self.stream);
        }
    }
}
