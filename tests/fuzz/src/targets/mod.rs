//! The targets, one file per family.

mod batch;
mod chain;
mod codec;
mod envelope;
mod export;
mod link;
mod records;
mod segment;
mod shown;
mod vendor;

use crate::Target;

/// Every target.
pub const ALL: [Target; 43] = [
    Target { name: "envelope", run: envelope::run, seeds: envelope::seeds },
    Target { name: "chain", run: chain::run, seeds: chain::seeds },
    Target { name: "batch_body", run: batch::body, seeds: batch::body_seeds },
    Target { name: "sections", run: batch::sections, seeds: batch::section_seeds },
    codec::target::<0>("codec_const"),
    codec::target::<1>("codec_plain"),
    codec::target::<2>("codec_delta"),
    codec::target::<3>("codec_delta2"),
    codec::target::<4>("codec_decimal"),
    codec::target::<5>("codec_decimal_d"),
    codec::target::<6>("codec_decimal_d2"),
    codec::target::<7>("codec_raw"),
    codec::target::<8>("codec_nullable"),
    codec::target::<9>("codec_keyed"),
    codec::target::<10>("codec_planes"),
    codec::target::<11>("codec_patched"),
    codec::target::<12>("codec_dict"),
    codec::target::<13>("codec_ratio"),
    codec::target::<14>("codec_residual"),
    codec::target::<15>("codec_pco"),
    Target { name: "hello", run: records::hello, seeds: records::hello_seeds },
    Target { name: "ack", run: records::ack, seeds: records::ack_seeds },
    Target { name: "declaration", run: records::declaration, seeds: records::declaration_seeds },
    Target { name: "part", run: records::part, seeds: records::part_seeds },
    Target { name: "link_stream", run: link::stream, seeds: link::stream_seeds },
    Target { name: "link_payload", run: link::payload, seeds: link::payload_seeds },
    Target { name: "segment_scan", run: segment::scan, seeds: segment::scan_seeds },
    Target { name: "segment_frames", run: segment::frames, seeds: segment::frame_seeds },
    Target { name: "segment_payload", run: segment::payload, seeds: segment::payload_seeds },
    Target { name: "export", run: export::run, seeds: export::seeds },
    Target { name: "decode", run: shown::run, seeds: shown::seeds },
    vendor::ALL[0],
    vendor::ALL[1],
    vendor::ALL[2],
    vendor::ALL[3],
    vendor::ALL[4],
    vendor::ALL[5],
    vendor::ALL[6],
    vendor::ALL[7],
    vendor::ALL[8],
    vendor::ALL[9],
    vendor::ALL[10],
    vendor::ALL[11],
];
