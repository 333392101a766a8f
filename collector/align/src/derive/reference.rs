//! What other libraries give (`tests/golden/derive/make.py`), for tests.

use serde_json::Value;

/// A section of the reference.
pub(super) fn section(name: &str) -> Value {
    let text = include_str!("../../../../tests/golden/derive/reference.json");
    let whole: Value = serde_json::from_str(text).unwrap();
    whole.get(name).unwrap_or_else(|| panic!("reference.json has no {name}")).clone()
}

/// Numbers, null where the other library has none.
pub(super) fn floats(value: &Value) -> Vec<Option<f64>> {
    value.as_array().unwrap().iter().map(Value::as_f64).collect()
}

/// True if two numbers agree to `tolerance`, relative above 1.
pub(super) fn agree(a: Option<f64>, b: Option<f64>, tolerance: f64) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0),
        _ => false,
    }
}

/// Fails with the place of the first pair that does not agree.
pub(super) fn assert_agree(found: &[Option<f64>], wanted: &[Option<f64>], tolerance: f64, what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (place, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!(
            agree(*found, *wanted, tolerance),
            "{what}: at {place} {found:?}, the reference has {wanted:?}"
        );
    }
}
