//! Where engines' SQL differs.

use headwater_core::schema::Logical;

/// An engine's SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// DuckDB.
    DuckDb,
    /// Apache Spark SQL, 3.4 or later.
    Spark,
    /// Trino.
    Trino,
}

/// Text as a literal.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Dialect {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DuckDb => "DuckDB",
            Self::Spark => "Spark SQL",
            Self::Trino => "Trino",
        }
    }

    /// An identifier, whatever words the engine reserves. Names here have no quotes in them.
    pub(super) fn name_of(self, name: &str) -> String {
        match self {
            Self::Spark => format!("`{name}`"),
            Self::DuckDb | Self::Trino => format!("\"{name}\""),
        }
    }

    /// Text as a literal of the engine: Spark reads backslashes.
    pub(super) fn literal(self, text: &str) -> String {
        match self {
            Self::Spark => quoted(&text.replace('\\', "\\\\")).replace("''", "\\'"),
            Self::DuckDb | Self::Trino => quoted(text),
        }
    }

    /// A double, exactly: with an exponent every engine reads a double.
    pub(super) fn double(self, value: f64) -> String {
        format!("{value:E}")
    }

    /// Whole quotient of integers of which neither is negative.
    pub(super) fn quotient(self, a: &str, b: &str) -> String {
        match self {
            Self::DuckDb => format!("(({a}) // ({b}))"),
            Self::Spark => format!("(({a}) div ({b}))"),
            Self::Trino => format!("(({a}) / ({b}))"),
        }
    }

    /// The half of an integer, rounded down.
    pub(super) fn half(self, a: &str) -> String {
        // What is divided is even, so it does not matter which way the engine rounds.
        self.quotient(&format!("({a}) - ((({a}) % 2) + 2) % 2"), "2")
    }

    /// The whole quotient, rounded down, of any integer by a positive one.
    pub(super) fn floor(self, a: &str, by: i64) -> String {
        self.quotient(&format!("({a}) - ((({a}) % {by}) + {by}) % {by}"), &by.to_string())
    }

    /// The newest value before and at a row, or the oldest from it on, nulls passed over.
    pub(super) fn value_over(self, function: &str, value: &str, window: &str) -> String {
        match self {
            Self::DuckDb => format!("{function}({value} IGNORE NULLS) OVER ({window})"),
            Self::Spark | Self::Trino => format!("{function}({value}) IGNORE NULLS OVER ({window})"),
        }
    }

    /// A timestamp of UTC ns.
    pub(super) fn timestamp(self, ns: &str) -> String {
        let us = self.floor(ns, 1_000);
        match self {
            Self::DuckDb => format!("(make_timestamp({us}) AT TIME ZONE 'UTC')"),
            Self::Spark => format!("timestamp_micros({us})"),
            Self::Trino => format!("CAST(from_unixtime_nanos({us} * 1000) AS timestamp(6) with time zone)"),
        }
    }

    /// The rows of a relation `of` with `lo_n` and `hi_n`, once for each whole number `n` from one to the other.
    pub(super) fn numbers(self, of: &str) -> String {
        match self {
            Self::DuckDb => {
                format!("SELECT device, unnest(range(lo_n, hi_n + 1)) AS n FROM {of} WHERE lo_n <= hi_n")
            }
            Self::Spark => {
                format!("SELECT device, explode(sequence(lo_n, hi_n)) AS n FROM {of} WHERE lo_n <= hi_n")
            }
            // Its sequences hold at most 10 000 numbers.
            Self::Trino => format!(
                "SELECT device, lo_n + 10000 * a.i + b.j AS n FROM {of} CROSS JOIN UNNEST(sequence(0, (hi_n - lo_n) / 10000)) AS a(i) CROSS JOIN UNNEST(sequence(0, 9999)) AS b(j) WHERE lo_n <= hi_n AND lo_n + 10000 * a.i + b.j <= hi_n"
            ),
        }
    }

    /// The source struct of a result.
    pub(super) fn source(self, result: &str, stream: &str) -> String {
        let stream = format!("CASE WHEN {result}.lo IS NOT NULL THEN {} END", self.literal(stream));
        let of = |member: &str| format!("{result}.{member}");
        let members = [
            ("stream", "varchar", stream),
            ("epoch", "varchar", of("src_epoch")),
            ("seq_lo", "bigint", of("lo")),
            ("seq_hi", "bigint", of("hi")),
            ("dt_ns", "bigint", of("dt")),
            ("err_ns", "bigint", of("err")),
            ("n", "integer", format!("CAST({} AS integer)", of("n"))),
            ("flag", "integer", format!("CAST({} AS integer)", of("flag"))),
        ];
        let list = |each: &dyn Fn(&(&str, &str, String)) -> String| -> String {
            members.iter().map(each).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::DuckDb => {
                format!("struct_pack({})", list(&|(name, _, value)| format!("{name} := {value}")))
            }
            Self::Spark => {
                format!("named_struct({})", list(&|(name, _, value)| format!("'{name}', {value}")))
            }
            Self::Trino => format!(
                "CAST(ROW({}) AS ROW({}))",
                list(&|(_, _, value)| value.clone()),
                list(&|(name, kind, _)| format!("{name} {kind}"))
            ),
        }
    }

    /// A triple (e, s, v) that orders by its first two members; `kind` is the type of its third.
    pub(super) fn triple(self, e: &str, seq: &str, value: &str, kind: &str) -> String {
        match self {
            Self::DuckDb => format!("struct_pack(e := {e}, s := {seq}, v := {value})"),
            Self::Spark => format!("named_struct('e', {e}, 's', {seq}, 'v', {value})"),
            Self::Trino => format!("CAST(ROW({e}, {seq}, {value}) AS ROW(e bigint, s bigint, v {kind}))"),
        }
    }

    /// The type of values of a field, as an engine that must be told calls it.
    pub(super) fn type_of(self, logical: &Logical) -> &'static str {
        match logical {
            Logical::Bool => "boolean",
            Logical::I8 | Logical::I16 | Logical::I32 | Logical::U8 | Logical::U16 => "integer",
            Logical::I64 | Logical::U32 => "bigint",
            Logical::U64 => "decimal(20, 0)",
            Logical::F32 => "real",
            Logical::F64 | Logical::Scaled { .. } => self.double_type(),
            Logical::Utf8 | Logical::Enum(_) | Logical::Blob => "varchar",
            Logical::Bytes | Logical::Fixed(_) | Logical::Keyed(_) => "varbinary",
        }
    }

    /// Type of a double.
    pub(super) fn double_type(self) -> &'static str {
        "double"
    }
}
