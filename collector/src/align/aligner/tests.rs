//! Whatever the order and the batching in which samples arrive, the final rows are the same, and the same as of all at
//! once (L2).

use super::*;
use crate::align::raw_rows::DeviceClocks;
use crate::commit::kinds::Kinds;
use crate::commit::raw::{RawRows, StoredBlobs, batch};
use crate::resolve::Resolved;
use arrow_cast::display::array_value_to_string;
use headwater_core::batch::{Column, Rows, StreamRef};
use headwater_core::id::{Seq, StreamId};
use headwater_core::sample::Value;
use headwater_core::schema::{Field, Logical, Modality, Schema};
use headwater_core::time::{ClockDomain, Grade, StampKind, UtcNanos};
use proptest::prelude::*;

const US: i64 = 1_000;
const COLUMNS: [&str; 9] = [
    "method = 'previous'\ntolerance = '900us'",
    "method = 'next'\ntolerance = '700us'",
    "method = 'nearest'\ntolerance = '600us'\noffset = '-80us'",
    "method = 'linear'\nmax_gap = '900us'",
    "method = 'window'\nwindow = { from = '-500us', to = '300us' }\nstats = ['mean', 'count']",
    "method = 'previous'\ntolerance = '200us'\nfallback = { locf = '2ms' }",
    "method = 'previous'\ntolerance = '600us'\nprepare = [{ step = 'median', samples = 3, max_gap = '500us' }]",
    "method = 'linear'\nmax_gap = '800us'\nprepare = [{ step = 'clip_rate', per_second = 9000, then = 'drop', max_gap = '500us' }, { step = 'resample', period = '300us', max_gap = '700us' }]",
    "method = 'list'\nwindow = { from = '-500us', to = '300us' }\nmax_items = 20\nprepare = [{ step = 'exponential', time_constant = '100us', max_gap = '300us' }, { step = 'savitzky_golay', samples = 3, order = 1, max_gap = '300us' }]",
];

fn recipe(spine: &str) -> Recipe {
    let mut text = format!(
        "headwater_recipe = 1\nname = 'r'\n[spine]\n{spine}\nmin_grade = 'ordering_only'\n[watermark]\nmax_out_of_order = '0s'\n"
    );
    for (place, column) in COLUMNS.iter().enumerate() {
        text += &format!("[[column]]\nname = 'c{place}'\nstream = 'imu'\nselect = ['x']\n{column}\n");
    }
    Recipe::parse(&text).unwrap()
}

fn schema() -> Schema {
    let field =
        Field { name: "x".parse().unwrap(), logical: Logical::F64, nullable: true, unit: "m/s2".to_owned() };
    let kind = "imu".parse().unwrap();
    Schema { salt: 0, kind, modality: Modality::Scalars, time_exp: 0, fields: vec![field] }
}

fn key(stream: &str) -> StreamKey {
    StreamKey { device: "pi-1".parse().unwrap(), epoch: Epoch(1), stream: stream.parse().unwrap() }
}

/// A clock of an attached device that is 1 s behind the boot line, known within 5 µs.
struct Attached;

impl DeviceClocks for Attached {
    fn on_boot(
        &self,
        _: (&DeviceId, Epoch, BootOrdinal),
        domain: ClockDomain,
        moments: &[i64],
    ) -> Option<Vec<(i64, i64)>> {
        (domain == ClockDomain(4)).then(|| moments.iter().map(|at| (at + 1_000_000_000, 5 * US)).collect())
    }
}

/// One thing that may arrive.
#[derive(Debug, Clone)]
enum Arrival {
    Sample { stream: &'static str, boot: u32, event_ns: i64, seq: u64, value: Option<f64>, domain: u32 },
    Gap(u64),
}

fn raw(arrival: &Arrival, kinds: &Kinds) -> Option<RecordBatch> {
    let Arrival::Sample { stream, boot, event_ns, seq, value, domain } = arrival else { return None };
    let schema = schema();
    let mut column = Column::new(schema.fields[0].logical.physical());
    assert!(column.push(&value.map_or(Value::Null, Value::F64)));
    let rows = Rows {
        stream: StreamRef::Id(StreamId(1)),
        fingerprint: schema.fingerprint(),
        boot_ordinal: BootOrdinal(*boot),
        first_seq: Seq(*seq),
        time_exp: 0,
        stamp_kind: StampKind::Instant,
        domain: ClockDomain(*domain),
        t: vec![*event_ns],
        lat_lo: vec![0],
        lat_hi: vec![0],
        fields: vec![column],
    };
    // Boots lie 40 ms apart, each placed within 200 ns.
    let shift = if *domain == 0 { 0 } else { 1_000_000_000 };
    let ts = UtcNanos(i64::from(*boot) * 40_000 * US + event_ns + shift);
    let resolved = [Resolved { ts, err_ns: 200, grade: Grade::Estimated, conflict: false }];
    let rows = RawRows { key: &key(stream), rows: &rows, resolved: &resolved, track: 1, late: vec![false] };
    let spec = kinds.spec(&schema.kind).unwrap();
    Some(batch(&[rows], &schema, &spec, kinds, &StoredBlobs::new()).unwrap())
}

/// A column whose seqs follow its event times, with holes that gaps explain; nulls here and there; spine samples anywhere.
fn world() -> impl Strategy<Value = Vec<Arrival>> {
    let steps = proptest::collection::vec((0_i64..400, 0_u8..10, 0_u8..12), 1..60);
    let spine = proptest::collection::vec((0_u8..2, 0_i64..600), 1..30);
    (steps, spine).prop_map(|(steps, spine)| {
        let mut arrivals = Vec::new();
        let (mut boot, mut event) = (1, 0);
        for (seq, (step, what, reboot)) in (0_u64..).zip(steps) {
            if reboot == 0 && boot == 1 {
                (boot, event) = (2, 0);
            }
            event += step * US;
            let value = (what != 1).then_some(seq as f64 * 0.5);
            arrivals.push(match what {
                0 => Arrival::Gap(seq),
                _ => Arrival::Sample { stream: "imu", boot, event_ns: event, seq, value, domain: 0 },
            });
        }
        let (mut boot, mut event) = (1, 0);
        for (seq, (reboot, step)) in (0_u64..).zip(spine) {
            if reboot == 0 && seq == 9 && boot == 1 {
                (boot, event) = (2, 0);
            }
            event += step * US;
            let value = Some((seq % 3) as f64);
            arrivals.push(Arrival::Sample { stream: "cam", boot, event_ns: event, seq, value, domain: 0 });
        }
        arrivals
    })
}

struct World {
    aligner: Aligner,
    kinds: Kinds,
    rows: Vec<(String, String)>,
    settled: usize,
}

impl World {
    fn new(recipe: Recipe) -> Self {
        let mut kinds = Kinds::default();
        kinds.admit(&schema()).unwrap();
        let mut aligner = Aligner::new(recipe, Coverage::default());
        let kind: KindName = "imu".parse().unwrap();
        let of = StreamKinds::from([("imu", &kind), ("cam", &kind)].map(|(stream, kind)| {
            (stream.parse().unwrap(), std::collections::BTreeSet::from([kind.clone()]))
        }));
        aligner.learn(&kinds, &of);
        Self { aligner, kinds, rows: Vec::new(), settled: 0 }
    }

    fn arrive(&mut self, arrival: &Arrival) {
        match arrival {
            Arrival::Gap(seq) => self.aligner.declare_gap(&key("imu"), *seq..*seq + 1, 0, 0),
            Arrival::Sample { stream, seq, .. } => {
                self.aligner.hold(&key(stream), *seq..*seq + 1);
                let batch = raw(arrival, &self.kinds).unwrap();
                let units = StampUnits::new();
                let with = Reading { units: &units, clocks: &Attached, now: BootNanos(0) };
                self.aligner.take(&"imu".parse().unwrap(), &batch, with).unwrap();
            }
        }
    }

    fn step(&mut self) {
        self.step_at(BootNanos(1));
    }

    fn step_at(&mut self, now: BootNanos) -> AlignedWindow {
        let window = self.aligner.step(now).unwrap();
        assert!(!self.aligner.is_behind());
        let done = self.aligner.covered_with(&window);
        self.aligner.finish(done);
        self.settled += window.left_out.len();
        let mut who = window.rows.iter();
        for batch in &window.batches {
            for at in 0..batch.num_rows() {
                let row = batch.slice(at, 1);
                let shown = row.columns().iter().map(|column| array_value_to_string(column, 0).unwrap());
                self.rows.push((who.next().unwrap().row_key.clone(), shown.collect::<Vec<_>>().join("\n")));
            }
        }
        window
    }

    fn promise(&mut self, stream: &str, next_seq: usize) {
        let promise =
            Promise { boot: BootOrdinal(9), next_seq: Seq(next_seq as u64), promise_b: BootNanos(0) };
        // Far beyond in UTC too, as a later sample of that boot would say.
        self.aligner
            .newest
            .insert(("pi-1".parse().unwrap(), Epoch(1), BootOrdinal(9)), (0, 1_000_000_000 * US));
        self.aligner.promise(&key(stream), promise);
    }
}

fn count(arrivals: &[Arrival], of: &str) -> usize {
    let is = |arrival: &&Arrival| match arrival {
        Arrival::Sample { stream, .. } => *stream == of,
        Arrival::Gap(_) => of == "imu",
    };
    arrivals.iter().filter(is).count()
}

/// All rows, sorted by key, after these arrived in this order with a step after every so many.
fn rows(spine: &str, arrivals: &[Arrival], order: &[usize], every: usize) -> Vec<(String, String)> {
    let mut world = World::new(recipe(spine));
    for (n, at) in order.iter().enumerate() {
        world.arrive(&arrivals[*at]);
        if n % every == 0 {
            world.step();
        }
    }
    for stream in ["imu", "cam"] {
        world.promise(stream, count(arrivals, stream));
    }
    world.step();
    world.rows.sort();
    world.rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn rows_are_the_same_in_any_order_of_arrival(
        arrivals in world(),
        swaps in proptest::collection::vec(any::<prop::sample::Index>(), 0..80),
        every in 1_usize..9,
        spine in prop::sample::select(vec![
            "stream = 'cam'\nselect = ['x']",
            "event = { stream = 'cam', where = 'x > 0.5' }",
            "union = ['cam', 'imu']",
        ]),
    ) {
        let straight: Vec<usize> = (0..arrivals.len()).collect();
        let mut shuffled = straight.clone();
        for (place, with) in swaps.iter().enumerate() {
            let (a, b) = (place % shuffled.len(), with.index(shuffled.len()));
            shuffled.swap(a, b);
        }
        let whole = rows(spine, &arrivals, &straight, usize::MAX);
        let keys: BTreeSet<&String> = whole.iter().map(|(key, _)| key).collect();
        prop_assert_eq!(keys.len(), whole.len(), "each row once");
        if spine.starts_with("stream") {
            prop_assert_eq!(whole.len(), count(&arrivals, "cam"));
        }
        prop_assert_eq!(rows(spine, &arrivals, &shuffled, every), whole);
    }
}

fn sample(stream: &'static str, event_us: i64, seq: u64) -> Arrival {
    let event_ns = event_us * US;
    Arrival::Sample { stream, boot: 1, event_ns, seq, value: Some(seq as f64), domain: 0 }
}

#[test]
fn a_row_waits_for_what_may_still_come_and_a_gap_ends_the_waiting() {
    let mut world = World::new(recipe("stream = 'cam'"));
    for arrival in [sample("imu", 100, 0), sample("cam", 500, 0)] {
        world.arrive(&arrival);
    }
    world.step();
    assert!(world.rows.is_empty(), "seq 1 may lie before 500 µs");
    world.arrive(&sample("imu", 9_000, 2));
    world.arrive(&sample("imu", 9_500, 3));
    world.step();
    assert!(world.rows.is_empty(), "seq 1 is still missing");
    world.arrive(&Arrival::Gap(1));
    world.step();
    assert_eq!(world.rows.len(), 1);
    assert_eq!(world.aligner.waiting(), 0);
}

#[test]
fn a_provisional_row_is_written_once_and_replaced_by_its_final_one() {
    let mut world = World::new(recipe("stream = 'cam'"));
    for arrival in [sample("imu", 100, 0), sample("cam", 500, 0)] {
        world.arrive(&arrival);
    }
    let late = BootNanos(700 * 1_000_000_000);
    let window = world.step_at(late);
    assert!(window.rows.len() == 1 && window.rows[0].provisional && window.replaced.is_empty());
    assert!(world.step_at(late).is_empty(), "once");
    assert!(!world.aligner.has_work(), "nothing came");
    for arrival in [sample("imu", 400, 1), sample("imu", 9_000, 2), sample("imu", 9_500, 3)] {
        world.arrive(&arrival);
    }
    let window = world.step_at(late);
    assert!(window.rows.len() == 1 && !window.rows[0].provisional);
    assert_eq!(window.replaced, [("pi-1".to_owned(), "0000000000000001/cam/0".to_owned())]);
    assert_eq!(world.aligner.coverage().provisional_count(), 0);
    assert!(world.step_at(late).is_empty());
}

#[test]
fn rows_of_a_devices_clock_stand_on_the_boot_line() {
    let attached = |seq: u64, at_us: i64| Arrival::Sample {
        stream: "imu",
        boot: 1,
        event_ns: at_us * US - 1_000_000_000,
        seq,
        value: Some(seq as f64),
        domain: 4,
    };
    let mut world = World::new(recipe("stream = 'cam'"));
    for (seq, at) in [(0, 100), (1, 400), (2, 9_000), (3, 9_900)] {
        world.arrive(&attached(seq, at));
    }
    world.arrive(&sample("cam", 500, 0));
    world.step();
    assert_eq!(world.rows.len(), 1);
    let window = world.rows[0].1.clone();
    assert!(window.contains("-100000"), "the match is 100 µs before the row: {window}");
}

#[test]
fn rows_that_are_too_uncertain_are_left_out_and_done() {
    let mut strict = recipe("stream = 'cam'");
    strict.spine.min_grade = Grade::Guaranteed;
    let mut world = World::new(strict);
    world.arrive(&sample("cam", 500, 3));
    world.step();
    assert_eq!((world.rows.len(), world.settled), (0, 1));
    world.arrive(&sample("cam", 500, 3));
    world.step();
    assert_eq!(world.settled, 1, "done is done");
}

#[test]
fn points_of_a_grid_follow_the_samples() {
    let mut world = World::new(recipe("grid = { period = '1ms' }"));
    for seq in 0..40 {
        world.arrive(&sample("imu", i64::try_from(seq).unwrap() * 250, seq));
    }
    world.step();
    let early = world.rows.len();
    assert!((8..=10).contains(&early), "{early}");
    world.promise("imu", 40);
    world.step();
    // Samples reach over 9.75 ms.
    assert_eq!(world.rows.len(), 10);
    assert!(world.rows.iter().all(|(key, _)| key.starts_with("grid/")));
}

#[test]
fn a_row_older_than_what_was_let_go_is_fetched_from_the_raw_tables() {
    let mut world = World::new(recipe("stream = 'cam'"));
    world.aligner.hold_samples(3);
    for seq in 0..10 {
        world.arrive(&sample("imu", i64::try_from(seq).unwrap() * 1_000, seq));
    }
    world.step();
    world.arrive(&sample("cam", 2_500, 1));
    assert!(world.aligner.step(BootNanos(0)).unwrap().is_empty() && world.aligner.is_behind());
    let fresh = world.aligner.emptied();
    assert!(!fresh.is_behind() && fresh.waiting() == 0);
}
