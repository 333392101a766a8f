//! Cells of what was found: sources, values and their uncertainties.

use super::*;

impl View<'_> {
    pub(super) fn source(&self, cells: &mut Cells, found: Option<Found>, flags: i32) {
        let name = format!("{}_src", self.column.name);
        let mut put = |member: &str, cell: Option<Cell>| {
            cells.insert(format!("{name}.{member}"), cell.unwrap_or(Cell::Null))
        };
        let seq = |s: usize| Cell::Int(self.samples[s].seq as i64);
        put("stream", found.map(|_| Cell::Text(self.column.stream.to_string())));
        put("epoch", found.map(|f| Cell::Text(self.world.lines[self.samples[f.hi].line].epoch.to_string())));
        put("seq_lo", found.map(|f| seq(f.lo)));
        put("seq_hi", found.map(|f| seq(f.hi)));
        put("dt_ns", found.map(|f| Cell::Int(f.near.dt)));
        put("err_ns", found.map(|f| Cell::Int(f.near.sigma)));
        put("n", Some(Cell::Int(found.map_or(0, |f| f.n))));
        put("flag", Some(Cell::Int(flags.into())));
    }

    pub(super) fn place_of(&self, field: &str) -> Option<usize> {
        self.world.fields[self.place].iter().position(|(name, _)| name == field)
    }

    /// A field of a sample as a number, in the wanted unit.
    pub(super) fn number(&self, s: usize, field: usize) -> Option<f64> {
        let x = match self.samples[s].values[field] {
            Cell::Bits(bits) => f64::from_bits(bits),
            Cell::Int(x) => x as f64,
            _ => return None,
        };
        Some(if self.is_kelvin(field) { (x * 20.0 + 5463.0) / 20.0 } else { x })
    }

    pub(super) fn is_kelvin(&self, field: usize) -> bool {
        field == 0 && !self.column.units.is_empty()
    }

    /// A field of a sample as it is put out.
    pub(super) fn plain(&self, s: usize, field: usize) -> Cell {
        match &self.samples[s].values[field] {
            Cell::Bits(_) => self.number(s, field).map_or(Cell::Null, Cell::float),
            other => other.clone(),
        }
    }

    pub(super) fn constant(&self, field: usize, float: bool) -> Option<Cell> {
        let Fallback::Const(constants) = &self.column.fallback else { return None };
        let name = self.column.select[field].clone();
        let Some(Constant::Number(x)) = constants.get(&name) else { return None };
        let float = float || self.world.fields[self.place][field].1 != arrow_schema::DataType::Int64;
        Some(if float { Cell::float(*x) } else { Cell::Int(*x as i64) })
    }

    pub(super) fn values(&self, cells: &mut Cells, found: Option<Found>) {
        let computed = !matches!(
            self.column.method,
            Method::Previous { .. } | Method::Next { .. } | Method::Nearest { .. }
        );
        for field in 0..self.column.select.len() {
            let name = format!("{}_{}", self.column.name, self.column.select[field]);
            let (mut value, rate) = match found {
                None => (Cell::Null, None),
                Some(found) if !computed => (self.plain(found.lo, field), None),
                Some(found) => self.computed(found, field),
            };
            let kind = &self.world.fields[self.place][field].1;
            if self.column.uncertainty && *kind != arrow_schema::DataType::Utf8 {
                let u = found
                    .filter(|_| value != Cell::Null)
                    .and_then(|found| self.uncertainty(found, field, rate, computed));
                cells.insert(format!("{name}_u"), u.map_or(Cell::Null, Cell::Near));
            }
            if found.is_none()
                && let Some(constant) = self.constant(field, computed)
            {
                value = constant;
            }
            cells.insert(name, value);
        }
    }

    pub(super) fn uncertainty(
        &self,
        found: Found,
        field: usize,
        rate: Option<f64>,
        computed: bool,
    ) -> Option<f64> {
        let name = match (&self.column.method, field) {
            (Method::Geodesic { .. }, 0 | 1) => "eph".to_owned(),
            (Method::Geodesic { .. }, _) => "epv".to_owned(),
            _ => format!("{}_u", self.column.select[field]),
        };
        let own = |s: usize| {
            let place = self.place_of(&name)?;
            let Cell::Bits(bits) = self.samples[s].values[place] else { return None };
            Some(f64::from_bits(bits).abs())
        };
        let own = match (own(found.lo), own(found.hi)) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        if !computed {
            return own;
        }
        Some(rate.unwrap_or(0.0) * found.near.sigma as f64 + own.unwrap_or(0.0))
    }

    /// An interpolated value, and its change per ns.
    pub(super) fn computed(&self, found: Found, field: usize) -> (Cell, Option<f64>) {
        let per_ns = |change: f64| if found.gap > 0 { change / found.gap as f64 } else { 0.0 };
        match &self.column.method {
            Method::Slerp(_) => {
                let q = |s: usize| {
                    let q: Option<Vec<f64>> = (0..4).map(|field| self.number(s, field)).collect();
                    let q = q?;
                    let norm = q.iter().map(|x| x * x).sum::<f64>().sqrt();
                    (norm > 0.0).then(|| q.iter().map(|x| x / norm).collect::<Vec<f64>>())
                };
                let (Some(a), Some(mut b)) = (q(found.lo), q(found.hi)) else { return (Cell::Null, None) };
                if found.lo == found.hi {
                    return (Cell::Near(a[field]), Some(0.0));
                }
                let mut cosine: f64 = (0..4).map(|i| a[i] * b[i]).sum();
                if cosine < 0.0 {
                    b.iter_mut().for_each(|x| *x = -*x);
                    cosine = -cosine;
                }
                let angle = cosine.min(1.0).acos();
                let value = if angle < 1e-6 {
                    a[field]
                } else {
                    ((1.0 - found.w) * angle).sin() / angle.sin() * a[field]
                        + (found.w * angle).sin() / angle.sin() * b[field]
                };
                (Cell::Near(value), Some(per_ns(2.0 * angle)))
            }
            Method::Geodesic { .. } if field < 2 => {
                let at = |s: usize| Some((self.number(s, 0)?.to_radians(), self.number(s, 1)?.to_radians()));
                let (Some(a), Some(b)) = (at(found.lo), at(found.hi)) else { return (Cell::Null, None) };
                if found.lo == found.hi {
                    return (self.number(found.lo, field).map_or(Cell::Null, Cell::float), Some(0.0));
                }
                // Haversine, and the intermediate point by it.
                let h = ((b.0 - a.0) / 2.0).sin().powi(2)
                    + a.0.cos() * b.0.cos() * ((b.1 - a.1) / 2.0).sin().powi(2);
                let d = 2.0 * h.sqrt().min(1.0).asin();
                if d < 1e-9 {
                    return (Cell::Near(self.number(found.lo, field).unwrap()), Some(per_ns(0.0)));
                }
                let (fa, fb) = (((1.0 - found.w) * d).sin() / d.sin(), (found.w * d).sin() / d.sin());
                let x = fa * a.0.cos() * a.1.cos() + fb * b.0.cos() * b.1.cos();
                let y = fa * a.0.cos() * a.1.sin() + fb * b.0.cos() * b.1.sin();
                let z = fa * a.0.sin() + fb * b.0.sin();
                let value = if field == 0 { z.atan2(x.hypot(y)) } else { y.atan2(x) };
                (Cell::Near(value.to_degrees()), Some(per_ns(d * 6_371_008.8)))
            }
            _ => {
                let (Some(a), Some(b)) = (self.number(found.lo, field), self.number(found.hi, field)) else {
                    return (Cell::Null, None);
                };
                let value = if found.lo == found.hi { a } else { a + found.w * (b - a) };
                (Cell::float(value), Some(per_ns((b - a).abs())))
            }
        }
    }
}
