//! Exports of cards: any file, and files whose sums were mended so that what is behind them is reached.

use crate::corpus::golden;
use crate::outcome;
use crate::probe::Probe;
use headwater_core::export::{ExportReader, ExportWriter, Exported};

/// Bytes of the header, and of a record's head.
const HEADER_BYTES: usize = 16;
const HEAD_BYTES: usize = 9;

/// Reads an export to its end or its first fault; what was read writes to what reads the same.
pub(super) fn run(input: &[u8], probe: &mut Probe) -> u64 {
    let as_it_is = read(input, probe);
    let mended = read(&mend(input), probe);
    outcome(&[&as_it_is, &mended])
}

fn read(input: &[u8], probe: &mut Probe) -> String {
    let mut found: Vec<Exported> = Vec::new();
    let (origin, end) = probe.decode(|| {
        found.clear();
        let mut reader = match ExportReader::open(input) {
            Ok(reader) => reader,
            Err(error) => return (None, error.to_string()),
        };
        let end = loop {
            match reader.next_message() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break format!("whole: {:?}", reader.totals().map(|totals| totals.messages > 0)),
                Err(error) => break error.to_string(),
            }
        };
        (Some(reader.origin().clone()), end)
    });
    if let Some(origin) = origin.filter(|_| probe.thorough) {
        let mut writer = ExportWriter::new(Vec::new(), &origin).expect("memory takes all");
        found.iter().for_each(|message| writer.add(message, 0, 0).expect("memory takes all"));
        let bytes = writer.finish().expect("memory takes all");
        let mut again = ExportReader::open(bytes.as_slice()).expect("it was written just now");
        for message in &found {
            assert_eq!(again.next_message().expect("it was written just now").as_ref(), Some(message));
        }
        assert!(again.next_message().expect("it was written just now").is_none());
    }
    end
}

/// The same with right sums, as far as its lengths lead.
fn mend(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    if bytes.len() < HEADER_BYTES {
        return bytes;
    }
    let sum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]).to_le_bytes();
    bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&sum);
    let (mut at, mut number) = (HEADER_BYTES, 0_u64);
    while let Some(head) = bytes.get(at..at + HEAD_BYTES) {
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        let end = (at + HEAD_BYTES).saturating_add(length as usize);
        let Some(payload) = bytes.get(at + HEAD_BYTES..end) else { break };
        let sum = crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), &head[..5]);
        let sum = crc32c::crc32c_append(sum, payload).to_le_bytes();
        bytes[at + 5..at + HEAD_BYTES].copy_from_slice(&sum);
        (at, number) = (end, number + 1);
    }
    bytes
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    golden("export/v1", "hwx")
}
