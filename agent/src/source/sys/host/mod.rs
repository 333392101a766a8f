//! How this machine is: heat and supply, load and memory, disk and card, links. What it does not tell is missing, not wrong.
//!
//! One stream for the machine, and one below it for each network interface that is hardware.

mod card;
mod link;
mod pi;
mod proc;

use super::look::{Fault, Gauge, Looked, Reader};
use super::tree::{SysTree, stream_part};
use headwater_core::ports::Clock;
use headwater_core::sample::Value;
use headwater_core::schema::Logical;
use proc::CpuTimes;
use std::path::Path;

/// Table of the machine's rows.
pub(super) const KIND: &str = "host_health";
/// Table of the rows of its interfaces.
pub(super) const LINK_KIND: &str = "host_link";

/// What counters showed the last time.
#[derive(Debug, Default)]
pub(super) struct HostMemory {
    cpu: Option<CpuTimes>,
}

/// Where a value comes from.
type Ask<'a> = Box<dyn FnMut() -> Option<Value> + 'a>;
type Asked<'a> = (&'static str, Logical, &'static str, Ask<'a>);

fn number<'a>(
    name: &'static str,
    unit: &'static str,
    mut ask: impl FnMut() -> Option<f64> + 'a,
) -> Asked<'a> {
    (name, Logical::F64, unit, Box::new(move || ask().map(Value::F64)))
}

fn whole<'a>(
    name: &'static str,
    logical: Logical,
    unit: &'static str,
    mut ask: impl FnMut() -> Option<i64> + 'a,
) -> Asked<'a> {
    (name, logical, unit, Box::new(move || ask().map(Value::I64)))
}

/// Bytes and other counts the kernel keeps; those beyond a 64-bit signed number stop there.
fn fit(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Reads all of it once; `dir` lies on the disk whose room is told.
pub(super) fn look<C: Clock>(
    tree: &SysTree,
    dir: &Path,
    reader: &Reader<C>,
    memory: &mut HostMemory,
) -> Looked {
    let mut looked = Looked::default();
    if !tree.has("/proc/stat") && !tree.has("/sys/class") {
        return looked;
    }
    looked.add(String::new(), || {
        let times = tree.text("/proc/stat").and_then(|text| proc::cpu_times(&text));
        let load = times.zip(memory.cpu).and_then(|(now, before)| now.busy_percent_since(before));
        memory.cpu = times.or(memory.cpu);
        read(reader, KIND, health(tree, dir, load))
    });
    for interface in tree.names(link::PLACE).into_iter().filter(|name| link::is_hardware(tree, name)) {
        looked.add(stream_part(&interface), || read(reader, LINK_KIND, link::asked(tree, &interface)));
    }
    looked
}

fn read<C: Clock>(reader: &Reader<C>, kind: &str, mut asked: Vec<Asked<'_>>) -> super::look::Seen {
    let gauges =
        asked.iter().map(|(name, logical, unit, _)| Gauge::of(name, logical.clone(), unit)).collect();
    reader.device(kind, gauges, |at| {
        let value = asked.get_mut(at).and_then(|(_, _, _, ask)| ask());
        Ok::<_, Fault>(value.unwrap_or(Value::Null))
    })
}

fn health<'a>(tree: &'a SysTree, dir: &'a Path, cpu_busy: Option<f64>) -> Vec<Asked<'a>> {
    let memory = tree.text("/proc/meminfo").unwrap_or_default();
    let mem = move |key: &str| proc::meminfo(&memory, key).map(fit);
    let mem_total = mem.clone();
    let room = tree.room(dir);
    let disk = card::disk(tree);
    let written =
        disk.as_deref().and_then(|disk| card::written_bytes(&tree.text(format!("/sys/block/{disk}/stat"))?));
    let life = card::life(tree);
    let throttled = pi::throttled(tree);
    let bit = |name: &'static str, bit: u32| {
        whole(name, Logical::Bool, "1", move || throttled.map(|flags| i64::from((flags >> bit) & 1)))
    };
    let mut asked = vec![
        number("soc_temperature", "Cel", move || pi::soc_temperature(tree)),
        whole("under_voltage", Logical::Bool, "1", move || {
            throttled.map(|flags| i64::from(flags & 1)).or_else(|| pi::under_voltage_alarm(tree))
        }),
    ];
    asked.extend([
        bit("frequency_capped", pi::FREQUENCY_CAPPED),
        bit("throttled", pi::THROTTLED),
        bit("soft_temperature_limit", pi::SOFT_LIMIT),
        bit("under_voltage_since_boot", pi::SINCE_BOOT),
        bit("frequency_capped_since_boot", pi::SINCE_BOOT + pi::FREQUENCY_CAPPED),
        bit("throttled_since_boot", pi::SINCE_BOOT + pi::THROTTLED),
        bit("soft_temperature_limit_since_boot", pi::SINCE_BOOT + pi::SOFT_LIMIT),
    ]);
    asked.extend([
        number("cpu_busy", "%", move || cpu_busy),
        number("load_1min", "1", move || proc::first_number(&tree.text("/proc/loadavg")?)),
        whole("memory_available", Logical::I64, "By", move || mem("MemAvailable")),
        whole("memory_total", Logical::I64, "By", move || mem_total("MemTotal")),
        whole("disk_free", Logical::I64, "By", move || room.map(|room| fit(room.free))),
        whole("disk_total", Logical::I64, "By", move || room.map(|room| fit(room.total))),
        whole("disk_written", Logical::I64, "By", move || written.map(fit)),
        number("card_life_used_a", "%", move || life.a),
        number("card_life_used_b", "%", move || life.b),
        whole("card_spare", card::spare_logical(), "1", move || life.spare),
        number("uptime", "s", move || proc::first_number(&tree.text("/proc/uptime")?)),
    ]);
    asked
}
