//! Moves bytes between a [`Device`] and a UART of the `embedded-io` traits, without ever waiting.

use embedded_io::{Read, ReadReady, Write, WriteReady};

use crate::device::{Device, Request};

/// The most bytes of the host taken in by one call, so that samples keep their time on a flooded line.
pub const READ_BYTES_MAX: usize = 64;

/// The most bytes sent by one call, for a UART that is never full, as in tests.
pub const WRITE_BYTES_MAX: usize = 256;

/// Reads what has come, does what is due, writes what the UART takes. `now_us` reads the clock.
///
/// Gives out a request as soon as one was read: answer it, then call again.
///
/// # Errors
/// Those of the UART.
pub fn pump<U, const S: usize, const RX: usize, const TX: usize>(
    device: &mut Device<'_, S, RX, TX>,
    uart: &mut U,
    mut now_us: impl FnMut() -> u64,
) -> Result<Option<Request>, U::Error>
where
    U: Read + ReadReady + Write + WriteReady,
{
    for _ in 0..READ_BYTES_MAX {
        let mut byte = [0];
        if !uart.read_ready()? || uart.read(&mut byte)? == 0 {
            break;
        }
        let [byte] = byte;
        if let Some(request) = device.receive(byte, now_us()) {
            return Ok(Some(request));
        }
    }
    device.poll(now_us());
    let mut left = WRITE_BYTES_MAX;
    while left != 0 && uart.write_ready()? {
        let chunk = device.chunk(now_us());
        let chunk = chunk.get(..left).unwrap_or(chunk);
        if chunk.is_empty() {
            break;
        }
        let written = uart.write(chunk)?;
        device.sent(written);
        left = left.saturating_sub(written.max(1));
    }
    Ok(None)
}
