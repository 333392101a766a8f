//! The catalogue: what is done to clean rows, and what is seen of their pictures then.

use crate::world::{Dice, FRAMES_HZ, Row, S, Source};

/// What is wrong with the pictures of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Film {
    Good,
    /// Other bytes, the same pixels.
    SamePixels,
    Black,
    White,
    Blurred,
    Torn,
}

/// One fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) film: Film,
    /// Spoils the rows from place `from` on.
    pub(crate) spoil: fn(&mut Vec<Row>, usize, &mut Dice),
}

const fn fault(name: &'static str, spoil: fn(&mut Vec<Row>, usize, &mut Dice)) -> Fault {
    Fault { name, film: Film::Good, spoil }
}

const fn film(name: &'static str, film: Film) -> Fault {
    Fault { name, film, spoil: |_, _, _| {} }
}

/// Every row from `from` on.
fn each(rows: &mut [Row], from: usize, mut of: impl FnMut(usize, &mut Row)) {
    rows.iter_mut().skip(from).enumerate().for_each(|(n, row)| of(n, row));
}

/// One of the motion's values.
fn motion(rows: &mut [Row], from: usize, at: usize, mut of: impl FnMut(usize, f64) -> f64) {
    each(rows, from, |n, row| row.motion[at] = row.motion[at].map(|value| of(n, value)));
}

fn swap(rows: &mut [Row], from: usize, a: usize, b: usize) {
    each(rows, from, |_, row| row.motion.swap(a, b));
}

const NOTHING: Source = Source { seq: None, dt_ns: 0, flag: 1 };

pub(crate) const FAULTS: &[Fault] = &[
    fault("stuck accel_z", |rows, from, _| {
        let held = rows[from].motion[2];
        each(rows, from, |_, row| row.motion[2] = held);
    }),
    fault("stuck imu", |rows, from, _| {
        let held = rows[from].motion;
        each(rows, from, |_, row| row.motion = held);
    }),
    fault("stuck fix", |rows, from, _| {
        let held = rows[from].place;
        each(rows, from, |_, row| row.place = held);
    }),
    fault("accel_x drifts away", |rows, from, _| motion(rows, from, 0, |n, value| value + n as f64 * 0.01)),
    fault("gyro_z has a bias", |rows, from, _| motion(rows, from, 5, |_, value| value + 0.25)),
    fault("axes x and z swapped", |rows, from, _| {
        swap(rows, from, 0, 2);
        swap(rows, from, 3, 5);
    }),
    fault("axes y and z swapped", |rows, from, _| {
        swap(rows, from, 1, 2);
        swap(rows, from, 4, 5);
    }),
    fault("axes x and y swapped", |rows, _, _| {
        swap(rows, 0, 0, 1);
        swap(rows, 0, 3, 4);
    }),
    fault("sign of accel_z flipped", |rows, from, _| motion(rows, from, 2, |_, value| -value)),
    fault("sign of gyro_z flipped", |rows, _, _| motion(rows, 0, 5, |_, value| -value)),
    fault("acceleration in g", |rows, from, _| {
        (0..3).for_each(|at| motion(rows, from, at, |_, value| value / 9.806_65))
    }),
    fault("rates in deg/s", |rows, from, _| {
        (3..6).for_each(|at| motion(rows, from, at, |_, value| value.to_degrees()))
    }),
    fault("speed in km/h", |rows, _, _| each(rows, 0, |_, row| row.place[2] = row.place[2].map(|v| v * 3.6))),
    fault("temperature in degF", |rows, from, _| {
        each(rows, from, |_, row| row.air = row.air.map(|t| t * 1.8 + 32.0))
    }),
    fault("temperature in K", |rows, from, _| {
        each(rows, from, |_, row| row.air = row.air.map(|t| t + 273.15))
    }),
    fault("frozen frame", |rows, from, _| {
        let held = rows[from].picture.clone();
        each(rows, from, |_, row| row.picture.clone_from(&held));
    }),
    film("frozen frame, encoded anew", Film::SamePixels),
    film("black camera", Film::Black),
    film("white camera", Film::White),
    film("camera out of focus", Film::Blurred),
    film("torn pictures", Film::Torn),
    fault("pictures of another size", |rows, _, _| each(rows, 0, |_, row| row.width = 1_920)),
    fault("no pictures", |rows, from, _| each(rows, from, |_, row| row.picture = None)),
    fault("clock an hour back", |rows, from, _| each(rows, from, |_, row| row.ts_ns -= 3_600 * S)),
    fault("clock three days ahead", |rows, from, _| each(rows, from, |_, row| row.ts_ns += 3 * 86_400 * S)),
    fault("clock half a minute ahead", |rows, from, _| each(rows, from, |_, row| row.ts_ns += 30 * S)),
    fault("clock of 1970", |rows, from, _| each(rows, from, |_, row| row.ts_ns -= 1_790_000_000 * S)),
    fault("time hardly known", |rows, from, _| each(rows, from, |_, row| row.err_ns = 2 * S)),
    fault("only the order known", |rows, from, _| each(rows, from, |_, row| row.grade = "ordering_only")),
    fault("imu dropped", |rows, from, _| each(rows, from, |_, row| row.motion_src = NOTHING)),
    fault("fix dropped", |rows, from, _| each(rows, from, |_, row| row.place_src = NOTHING)),
    fault("air dropped", |rows, from, _| {
        each(rows, from, |_, row| row.air_src = Source { flag: 2, ..NOTHING })
    }),
    fault("fixes late by a second", |rows, from, _| each(rows, from, |_, row| row.place_src.dt_ns -= S)),
    fault("imu at every tenth sample", |rows, from, _| {
        each(rows, from, |n, row| {
            row.motion_src.dt_ns = if n % 3 == 0 { 0 } else { 50_000_000 };
        })
    }),
    fault("spikes of accel_y", |rows, from, dice| {
        motion(rows, from, 1, |_, value| if dice.chance(0.01) { value + 20.0 } else { value })
    }),
    fault("one spike beyond the sensor", |rows, from, _| rows[from].motion[0] = Some(327.67)),
    fault("fixes that jump", |rows, from, _| {
        each(rows, from, |n, row| {
            if n % 120 < 2 {
                row.place[0] = row.place[0].map(|lat| lat + 0.02);
            }
        })
    }),
    fault("rows twice", |rows, from, _| {
        let again = rows[from..from + 20].to_vec();
        rows.splice(from..from, again);
    }),
    fault("rows twice under other keys", |rows, from, _| {
        let mut again = rows[from..from + 20].to_vec();
        each(&mut again, 0, |n, row| row.key = Some(format!("e1/camera/front/{}", 1_000_000 + n)));
        rows.extend(again);
    }),
    fault("recorded gaps", |rows, from, dice| {
        each(rows, from, |_, row| {
            if dice.chance(0.5) {
                row.motion_src.flag |= 512;
            }
        })
    }),
    fault("two minutes missing", |rows, from, _| {
        rows.drain(from..from + usize::try_from(120 * FRAMES_HZ).unwrap());
    }),
    fault("on the other side of the world", |rows, from, _| {
        each(rows, from, |_, row| {
            row.place[1] = row.place[1].map(|lon| lon - 120.0);
        })
    }),
    fault("null island", |rows, from, _| {
        each(rows, from, |_, row| row.place = [Some(0.0), Some(0.0), row.place[2]])
    }),
    fault("latitude and longitude exchanged", |rows, from, _| {
        each(rows, from, |_, row| row.place.swap(0, 1))
    }),
    fault("frame rate halved", |rows, _, _| {
        let mut n = 0;
        rows.retain(|_| {
            n += 1;
            n % 2 == 0
        });
    }),
    fault("imu rate halved", |rows, _, _| {
        each(rows, 0, |_, row| {
            row.motion_src.seq = row.motion_src.seq.map(|(lo, _)| (lo / 2, lo / 2 + 1));
        })
    }),
    fault("acceleration in whole m/s2", |rows, _, _| {
        (0..3).for_each(|at| motion(rows, 0, at, |_, value| value.round()))
    }),
    fault("accel_z at its rail", |rows, from, _| motion(rows, from, 2, |_, value| value.min(9.9))),
    fault("burst of noise", |rows, from, dice| {
        motion(rows, from, 4, |n, value| if n < 80 { value + dice.normal() } else { value })
    }),
    fault("accelerometer asleep", |rows, from, _| {
        let held = rows[from].motion[0].unwrap_or(0.0);
        motion(rows, from, 0, |n, _| held + n as f64 * 1e-6);
    }),
    fault("not a number", |rows, from, dice| {
        motion(rows, from, 3, |_, value| if dice.chance(0.02) { f64::NAN } else { value })
    }),
    fault("values missing", |rows, from, dice| {
        each(rows, from, |_, row| {
            if dice.chance(0.3) {
                row.motion[4] = None;
            }
        })
    }),
    fault("never final", |rows, from, _| each(rows, from, |_, row| row.provisional = true)),
    fault("a negative bound", |rows, from, _| rows[from].err_ns = -1),
];
