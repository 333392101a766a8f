//! libFuzzer around any of the targets: `HEADWATER_TARGET` names it, `sections` if it is not set.
#![no_main]

use headwater_fuzz::Target;
use headwater_fuzz::probe::Probe;
use headwater_fuzz::targets::ALL;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("HEADWATER_TARGET").unwrap_or_else(|_| "sections".to_owned());
    *ALL.iter().find(|target| target.name == name).expect("HEADWATER_TARGET names a target")
});

fuzz_target!(|input: &[u8]| {
    // Sanitizers cost time; what is looked for here is memory and panics.
    let mut probe = Probe { cpu_ns_max: u64::MAX, ..Probe::default() };
    (TARGET.run)(input, &mut probe);
});
